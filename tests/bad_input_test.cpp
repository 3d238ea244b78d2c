// The executables, as a user meets them when something is wrong: each wrong file, name or number gives exactly one
// line on stderr and the exit code of its kind, and leaves the output folder as it was. Then interruption: a run that
// was stopped or killed in the middle of an epoch ends with the same bits as one that was left alone.
#include <doctest/doctest.h>
#include <espalier/core/io/file.h>
#include <espalier/core/io/pth.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>
#include <thread>

using namespace espalier;
namespace fs = std::filesystem;

namespace {

std::string slurp(const std::string& path) {
  const auto bytes = read_file(path, size_t(1) << 30);
  return {bytes.begin(), bytes.end()};
}

// A folder with one finished run of everything, made once.
struct House {
  fs::path root = fs::temp_directory_path() / ("espalier_bad_input_" + std::to_string(::getpid()));

  House() {
    fs::create_directories(root);
    fs::current_path(root);
    REQUIRE(run("train --model naive --images 64 --test-images 16 --epochs 1 --out good") == 0);
    REQUIRE(run("model_prune --weights good/model.pth --pruner l1 --finetune-epochs 0 --out pruned") == 0);
    REQUIRE(run("model_prune --model lenet --pruner l1 --epochs 0 --finetune-epochs 0 --out lenet") == 0);
    fs::copy("good", "keep", fs::copy_options::recursive);
  }
  ~House() {
    fs::current_path("/");
    fs::remove_all(root);
  }

  // The exit code; stdout and stderr are in the files "out" and "err".
  static int run(const std::string& command, const std::string& before = "") {
    const std::string line = before + ESPALIER_EXAMPLES "/" + command + " >out 2>err";
    const int status = std::system(line.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
};

House& house() {
  static House h;
  return h;
}

std::map<std::string, std::string> contents(const std::string& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    all[entry.path().string()] = entry.is_regular_file() ? slurp(entry.path().string()) : "folder";
  return all;
}

// Refused: this exit code, one line that starts with the tool's name and contains `words`, the folder "keep" (where
// earlier results lie, and where --out points) as before.
void refused(const std::string& command, int code, const std::string& words, const std::string& before = "") {
  CAPTURE(command);
  house();
  const auto kept = contents("keep");
  CHECK(House::run(command, before) == code);
  const std::string err = slurp("err");
  CAPTURE(err);
  CHECK(std::count(err.begin(), err.end(), '\n') == 1);
  CHECK(err.rfind(command.substr(0, command.find(' ')) + ": ", 0) == 0);
  CHECK(err.find(words) != std::string::npos);
  CHECK(contents("keep") == kept);
}

void write(const std::string& path, const std::string& text) {
  house();
  fs::create_directories(fs::absolute(path).parent_path());
  write_file(path, text);
}

const std::string force = " --out keep --force ";

}  // namespace

TEST_CASE("damaged model files") {
  house();
  const std::string whole = slurp("good/model.pth");
  std::string flipped = whole;
  flipped[whole.size() / 2] = char(flipped[whole.size() / 2] ^ 0x40);
  write("empty.pth", "");
  write("cut.pth", whole.substr(0, whole.size() / 2));
  write("short.pth", whole.substr(0, whole.size() - 1));
  write("noise.pth", std::string(5000, 'x'));
  write("flipped.pth", flipped);
  for (const char* file : {"empty.pth", "cut.pth", "short.pth", "noise.pth", "flipped.pth", "missing.pth", "good"}) {
    for (const std::string tool : {"evaluate --weights ", "train --epochs 1 --weights ", "model_prune --weights "})
      refused(tool + file + force, 3, file);
    refused(std::string("model_speedup --masks pruned/mask.pth --weights ") + file + force, 3, file);
  }
  refused("evaluate --model lenet --weights good/model.pth" + force, 3, "as lenet");
  pth::save("plain.pth", pth::load("good/model.pth"));  // as PyTorch writes it, without our note
  refused("evaluate --weights plain.pth" + force, 2, "does not say which model");
}

TEST_CASE("damaged masks, and masks of another model") {
  house();
  const std::string whole = slurp("pruned/mask.pth"), speedup = "model_speedup --weights pruned/model.pth --masks ";
  write("empty.pth", "");
  write("cutmask.pth", whole.substr(0, whole.size() / 2));
  for (const char* file : {"empty.pth", "cutmask.pth", "missing.pth"}) refused(speedup + file + force, 3, file);
  refused(speedup + "pruned/model.pth" + force, 3, "");  // weights are no masks
  refused(speedup + "lenet/mask.pth" + force, 3, "");
  pth::save("half.pth", pth::Dict{{"conv1", pth::Dict{{"weight", Tensor::full({20, 1, 5, 5}, 0.5f)}, {"bias", {}}}}});
  refused(speedup + "half.pth" + force, 3, "conv1");
  pth::save("nobody.pth", pth::Dict{{"conv9", pth::Dict{{"weight", Tensor::ones({20, 1, 5, 5})}, {"bias", {}}}}});
  refused(speedup + "nobody.pth" + force, 3, "conv9");
  refused("model_speedup --weights pruned/model.pth" + force, 2, "--masks");
}

TEST_CASE("config lists and sparsities") {
  const std::string prune = "model_prune --weights good/model.pth --finetune-epochs 0 --pruner l1" + force;
  for (const char* s : {"0", "1", "1.5", "-0.1", "nan", "half", "0.5x"}) refused(prune + "--sparsity " + s, 2, "");
  auto config = [&](const std::string& json, int code, const std::string& words) {
    write("c.json", json);
    refused(prune + "--config c.json", code, words);
  };
  for (const char* s : {"0", "1", "1.5", "\"0.5\""})
    config(std::string("[{\"op_types\": [\"Conv2d\"], \"sparsity\": ") + s + "}]", 2, "sparsity");
  config("[{\"op_types\": [\"Conv2d\"], \"sparcity\": 0.5}]", 2, "did you mean \"sparsity\"");
  config("[{\"op_names\": [\"conv3\"], \"sparsity\": 0.5}]", 2, "conv3");
  config("[{\"op_types\": [\"Linear\"], \"sparsity\": 0.5}]", 2, "Linear");
  config("[{\"op_types\": [\"Conv2d\"], \"sparsi", 3, "c.json");
  config("", 3, "c.json");
  config("{}", 2, "");
  config(std::string(100000, '['), 3, "c.json");
  refused(prune + "--config missing.json", 3, "missing.json");
}

TEST_CASE("damaged data files") {
  write("cifar/test_batch.bin", "short");
  write("cifar/data_batch_1.bin", "short");
  const std::string cifar = "train --model vgg11 --dataset cifar10 --epochs 1" + force + "--data ";
  refused(cifar + "cifar", 3, "data_batch_1.bin");
  refused(cifar + "nowhere", 3, "scripts/download_data");
  refused("train --model vgg11 --dataset cifar10" + force, 2, "needs the folder");
  auto idx = [](uint32_t magic, uint32_t n, size_t bytes) {
    std::string s;
    for (uint32_t v : {magic, n, 28u, 28u})
      for (int shift = 24; shift >= 0; shift -= 8) s += char(v >> shift);
    if (magic == 2049) s.resize(8);
    return s + std::string(bytes, '\1');
  };
  const std::string mnist = "train --model naive --dataset mnist --epochs 1 --data mnist" + force;
  write("mnist/train-labels-idx1-ubyte", idx(2049, 4, 4));
  for (const auto& images :
       {idx(2051, 4, 783), idx(2050, 4, 4 * 784), idx(2051, 5, 5 * 784), idx(2051, 4000000000u, 10)}) {
    write("mnist/train-images-idx3-ubyte", images);
    refused(mnist, 3, "idx");
  }
  // A good set is taken, and so are the first images of it.
  for (const std::string split : {"train", "t10k"}) {
    write("mnist/" + split + "-images-idx3-ubyte", idx(2051, 4, 4 * 784));
    write("mnist/" + split + "-labels-idx1-ubyte", idx(2049, 4, 4));
  }
  CHECK(
      House::run(
          "train --model naive --dataset mnist --epochs 1 --data mnist --images 3 --test-images 2 --out first3 --json",
          "") == 0);
}

TEST_CASE("unknown names, numbers out of range, missing devices") {
  const std::string train = "train --epochs 1 --images 64" + force;
  refused(train + "--model vgg91", 2, "did you mean");
  refused(train + "--dataset imagenet", 2, "imagenet");
  refused(train + "--model vgg11 --dataset mnist --data x", 3, "x");
  refused(train + "--device tpu", 2, "tpu");
  refused(train + "--schedule sometimes", 2, "sometimes");
  refused(train + "--augment wild", 2, "wild");
  refused(train + "--no-such-option", 2, "no-such-option");
  refused(train + "stray", 2, "stray");
  refused(train + "--lr", 2, "lr");
  for (const std::string o :
       {"--batch-size 0", "--epochs -1", "--threads 0", "--threads 5000", "--lr nan", "--lr 1e", "--seed x",
        "--images 0", "--max-steps 0", "--save-steps 1,x", "--save-steps -1", "--momentum 2"})
    refused(train + o, 2, o.substr(0, o.find(' ')));
  refused(train + "--log-steps nowhere/losses.csv", 2, "nowhere");
  refused("model_prune --pruner best" + force, 2, "best");
  if (!fs::exists("/dev/nvidiactl")) refused(train + "--device cuda", 4, "cuda");
}

TEST_CASE("output folders") {
  house();
  refused("train --out keep", 2, "not empty");
  refused("model_prune --out keep", 2, "not empty");
  refused("train", 2, "--out");
  refused("train --out keep --resume --force", 2, "--force");
  refused("train --out keep --resume --model lenet", 2, "model differs");
  refused("train --out keep/model.pth", 2, "not a folder");
  refused("train --out pruned --resume", 2, "tool differs");
  write("stuff/file", "x");
  refused("train --out stuff --resume", 3, "no run");
  refused("train --model naive --epochs 1 --images 64 --test-images 16 --out keep/model.pth/sub", 3, "sub");
  // A damaged checkpoint is no reason to start over silently.
  fs::remove_all("broken");
  fs::copy("keep", "broken", fs::copy_options::recursive);
  write("broken/last.pth", slurp("keep/last.pth").substr(0, 1000));
  const auto before = contents("broken");
  refused("train --model naive --images 64 --test-images 16 --epochs 2 --out broken --resume", 3, "last.pth");
  CHECK(contents("broken") == before);
}

TEST_CASE("a full disk, as a file-size limit") {
  const std::string limit = "ulimit -f 100; ";  // blocks of 512 bytes
  const std::string small = " --model naive --images 64 --test-images 16 --epochs ";
  refused("train" + small + "1 --out full", 3, "full", limit);
  for (const auto& [path, bytes] : contents("full")) CHECK(path.find(".pth") == std::string::npos);
  refused("train" + small + "2 --out keep --resume", 3, "last.pth", limit);  // the old checkpoint stays
  refused("model_speedup --weights pruned/model.pth --masks pruned/mask.pth --out full2", 3, "full2", limit);
  refused("model_prune --weights good/model.pth --finetune-epochs 0 --pruner level --out full3", 3, "full3", limit);
  write("keep/logits.pth", "old");
  refused("evaluate --weights good/model.pth --test-images 3000 --logits keep/logits.pth", 3, "logits.pth", limit);
}

namespace {

constexpr const char* long_run = "train --model naive --images 1500 --test-images 32 --epochs 2 --lr 0.02 --slim 1e-4 ";

// Starts the run, waits until `sign` exists and a little longer, and sends the signal. Returns the exit code.
int interrupted(const std::string& out, const std::string& sign, int signal) {
  const std::string line = std::string("exec " ESPALIER_EXAMPLES "/") + long_run + "--out " + out + " --log-steps " +
                           out + ".csv >out 2>err";
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  for (int i = 0; i < 6000 && !fs::exists(sign); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  ::kill(child, signal);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

}  // namespace

TEST_CASE("stopped in mid-epoch or killed, then resumed: the same bits") {
  house();
  REQUIRE(House::run(std::string(long_run) + "--out whole --log-steps whole.csv") == 0);
  CHECK(interrupted("stopped", "stopped/settings.json", SIGINT) == 130);
  CHECK(slurp("err") == "train: stopped by SIGINT; repeat the command with --resume to go on\n");
  CHECK(fs::exists("stopped/last.pth"));
  CHECK_FALSE(fs::exists("stopped/model.pth"));
  CHECK(interrupted("killed", "killed/last.pth", SIGKILL) == -SIGKILL);
  CHECK_FALSE(fs::exists("killed/model.pth"));
  for (const std::string out : {"stopped", "killed"}) {
    CAPTURE(out);
    REQUIRE(House::run(std::string(long_run) + "--resume --threads 1 --out " + out + " --log-steps " + out + ".csv") ==
            0);
    CHECK(slurp(out + "/model.pth") == slurp("whole/model.pth"));
  }
  CHECK(slurp("stopped.csv") == slurp("whole.csv"));
}
