// The executables, as a user meets them when something is wrong: each wrong file, name or number gives exactly one
// line on stderr and the exit code of its kind, and leaves the output folder as it was. Then interruption: a run that
// was stopped or killed in the middle of an epoch ends with the same bits as one that was left alone.
#include <doctest/doctest.h>
#include <espalier/core/io/file.h>
#include <espalier/core/io/pth.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
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
  static int run(const std::string& command, const std::string& before = "", const std::string& stdout_to = "out") {
    const std::string line = before + ESPALIER_EXAMPLES "/" + command + " >" + stdout_to + " 2>err";
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

// As many images as it takes to stop a tool in mid-epoch: under a sanitizer, which is slow, fewer.
#ifdef __SANITIZE_ADDRESS__
#define ESPALIER_LONG " --images 800 "
#else
#define ESPALIER_LONG " --images 2000 "
#endif

constexpr const char* long_run =
    "train --model naive" ESPALIER_LONG "--test-images 32 --epochs 2 --lr 0.02 --slim 1e-4 ";

pid_t start(const std::string& command) {
  const std::string line = "exec " ESPALIER_EXAMPLES "/" + command + " >out 2>err";
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
    ::_exit(127);
  }
  return child;
}

// Starts the command, waits until it is ready and a little longer, and sends the signal. Returns the exit code.
int interrupted(const std::string& command, const std::function<bool()>& ready, int signal) {
  const pid_t child = start(command);
  for (int i = 0; i < 6000 && !ready(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  ::kill(child, signal);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int interrupted(const std::string& command, const std::string& file, int signal) {
  return interrupted(
      command, [&] { return fs::exists(file); }, signal);
}

bool says(const std::string& words) { return fs::exists("out") && slurp("out").find(words) != std::string::npos; }

std::string long_run_to(const std::string& out) { return long_run + ("--out " + out + " --log-steps " + out + ".csv"); }

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
  const pth::Value weights = pth::load("good/model.pth");
  pth::save("two.pth", pth::Dict{{"net", weights}, {"ema", weights}});
  for (const char* tool : {"evaluate", "predict", "train --epochs 1", "model_prune --finetune-epochs 0 --pruner l1",
                           "model_quantize --quantizer ptq", "model_speedup --masks pruned/mask.pth", "sensitivity"}) {
    const std::string line = tool + (" --model naive --weights two.pth" + force);
    refused(line, 3, "net, ema; name the weights with --key NAME");
    refused(line + " --key nat", 3, "there is no 'nat'");
  }
  CHECK(House::run("evaluate --model naive --weights two.pth --key ema --test-images 16") == 0);
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
  config("[{\"op_types\": [\"Conv2d\"], \"sparsity\": 0.5, \"frequency\": 2}]", 2, "frequency");
  config("[{\"op_types\": [\"Conv2d\"], \"final_sparsity\": 0.5, \"end_epoch\": 1.5}]", 2, "end_epoch");
}

TEST_CASE("criteria, schedules and units") {
  const std::string prune =
      "model_prune --weights good/model.pth --images 64 --test-images 16 --finetune-epochs 0" + force;
  refused(prune + "--pruner l1 --granularity 4:2", 2, "4:2");
  refused(prune + "--pruner l1 --granularity blocks", 2, "blocks");
  refused(prune + "--pruner apoz --granularity element", 2, "apoz");
  refused(prune + "--pruner l1 --global --normalize median", 2, "expected one of none, mean");
  refused(prune + "--pruner l1 --prune-schedule agb", 2, "did you mean \"agp\"");
  refused(prune + "--pruner l1 --prune-iterations 3", 2, "rounds");
  refused(prune + "--pruner movement --prune-schedule once", 2, "cubic");
  refused(prune + "--pruner movement --save-masks", 2, "--save-masks");
  refused(prune + "--pruner taylor --prune-schedule admm", 2, "taylor");
  refused(prune + "--pruner taylor --statistics-batches 0", 2, "--statistics-batches");
  refused(prune + "--pruner taylor --statistics-batches 9", 3, "batches");
  refused(prune + "--pruner mean --activation tanh", 2, "tanh");
  refused(prune + "--pruner mean --dropout maybe", 2, "--dropout");
}

TEST_CASE("damaged data files") {
  write("cifar/test_batch.bin", "short");
  write("cifar/data_batch_1.bin", "short");
  const std::string cifar = "train --model vgg11 --dataset cifar10 --epochs 1" + force + "--data ";
  refused(cifar + "cifar", 3, "data_batch_1.bin");
  refused(cifar + "nowhere", 3, "scripts/download_data");
  refused("train --model vgg11 --dataset cifar10" + force, 2, "needs the folder", "unset ESPALIER_DATA;");
  refused("train --model vgg11 --dataset cifar10" + force, 3, "nowhere", "export ESPALIER_DATA=nowhere;");
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
  for (const std::string s : {"onecycle:nan", "onecycle:inf", "cosine:inf", "step:3:nan", "multistep:1:-inf",
                              "warmup:nan+none", "warmup:2+onecycle:nan"})
    refused(train + "--model naive --schedule " + s, 2, "is not a number");
  for (const std::string o :
       {"--lr", "--momentum", "--weight-decay", "--slim", "--label-smoothing", "--checkpoint-minutes"})
    for (const std::string v : {" nan", " inf", " -inf", " 1e999"}) refused(train + "--model naive " + o + v, 2, o);
  refused(train + "--log-steps nowhere/losses.csv", 2, "nowhere");
  refused("model_prune --pruner best" + force, 2, "best");
  const std::string quantize = "model_quantize --weights good/model.pth --test-images 16 --epochs 0" + force;
  refused("model_quantize --quantizer best" + force, 2, "best");
  for (const std::string b : {"0", "33", "x", "-1", "weight=4,weight=5", "bias=8", "weight=", "8.5"})
    refused(quantize + " --quantizer dorefa --bits " + b, 2, "");
  refused(quantize + " --quantizer qat --bits weight=4", 2, "says nothing about output");
  for (const std::string ranged : {"qat", "lsq", "lsq_plus"})
    refused(quantize + " --quantizer " + ranged, 2, "would have seen nothing");
  refused(quantize + " --quantizer dorefa --observer-state nowhere.pth", 3, "nowhere.pth");
  const std::string ptq =
      "model_quantize --quantizer ptq --weights good/model.pth --images 64 --test-images 16" + force;
  for (const std::string n : {"0", "-1", "x", "nan"}) refused(ptq + " --calibrate " + n, 2, "--calibrate");
  refused(ptq + " --calibrate 65", 2, "65 images, there are 64");
  refused(ptq + " --observer msee", 2, "did you mean \"mse\"");
  refused(ptq + " --epochs 1", 2, "ptq takes no steps");
  for (const std::string b : {"size", "size<0", "speed<1", "latency@0<1", "size<nan"})
    refused(ptq + " --budget \"" + b + "\"", 2, "[--budget] expected");
  refused(ptq + " --budget \"size<0.01\"", 2, "nothing fits");
  refused(quantize + " --quantizer bnn --budget \"size<0.1\"", 2, "bnn has none");
  for (const std::string b : {"0", "1", "33"}) refused(ptq + " --bits " + b, 2, "bits");
  refused(quantize + " --quantizer dorefa --calibrate 8", 2, "counts only with --quantizer ptq");
  for (const std::string o : {"--repeats 0", "--batch-sizes 0", "--exact-images -1"})
    refused(ptq + o, 2, o.substr(0, o.find(' ')));
  if (!fs::exists("/dev/nvidiactl")) refused(train + "--device cuda", 4, "cuda");
}

TEST_CASE("options that a tool would ignore are refused") {
  const std::string weights = " --weights good/model.pth ", small = " --images 64 --test-images 16 ";
  const std::string prune = "model_prune" + weights + "--pruner l1 --finetune-epochs 0" + force,
                    learn = "model_prune" + weights + "--finetune-epochs 2" + small + force,
                    ptq = "model_quantize --quantizer ptq" + weights + small + force,
                    speedup = "model_speedup --weights pruned/model.pth --masks pruned/mask.pth" + force,
                    sense = "sensitivity" + weights + force;
  const std::vector<std::array<std::string, 3>> vain{
      {prune, "finetune-lr 0.1", "with --finetune-epochs above 0"},
      {prune, "finetune-schedule none", "with --finetune-epochs above 0"},
      {prune, "finetune-on masked", "with --finetune-epochs above 0"},
      {prune, "teacher good/model.pth", "with --finetune-epochs above 0"},
      {prune, "lr 0.1", "with --epochs above 0"},
      {prune, "slim 1e-4", "with --epochs above 0"},
      {prune, "momentum 0.5", "with --epochs or --finetune-epochs above 0"},
      {prune, "activation relu6", "with --pruner apoz or mean"},
      {prune, "rewind-step 1", "with --prune-schedule lottery"},
      {prune, "admm-row 0.1", "with --prune-schedule admm"},
      {prune, "search-steps 3", "with --search or --budget"},
      {learn + "--pruner level --prune-schedule lottery", "finetune-lr 0.1", "without --prune-schedule lottery"},
      {learn + "--pruner l1 --search greedy", "max-sparsity 0.5", "with --budget"},
      {learn + "--pruner l1", "normalize mean", "with --global"},
      {learn + "--pruner level", "round-to 4", "where whole channels go"},
      {learn + "--pruner level --search uniform --sparsity 0.5", "round-to 4", "where whole channels go"},
      {learn + "--pruner l1 --search greedy", "dropout off", "with a --pruner that reads"},
      {learn + "--pruner taylor --search greedy", "activation relu6", "with --pruner apoz or mean"},
      {learn + "--pruner level --prune-schedule lottery", "reconstruct 2", "where all masks are there before"},
      {learn + "--pruner l1 --budget 'params<50%'", "search-steps 5", "with --search netadapt or sensitivity"},
      {learn + "--pruner l1 --budget 'params<50%'", "latency-table t.json", "with a --budget of latency"},
      {ptq, "lr 0.1", "with --float-epochs"},
      {ptq, "max-steps 3", "with a --quantizer that trains"},
      {ptq, "teacher good/model.pth", "with a --quantizer that trains"},
      {ptq, "clip-norm 1", "with --float-epochs"},
      {"model_quantize --quantizer dorefa --epochs 0" + weights + force, "images 64", "where something is learnt"},
      {"model_quantize --quantizer lsq --epochs 1" + weights + force, "nni-compatible", "with what NNI has"},
      {"evaluate" + weights, "repeats 3", "with a quantized file"},
      {"train --model naive --epochs 0" + small + force, "log-steps steps.csv", "with --epochs above 0"},
      {ptq + "--encodings none.json", "observer mse", "without --encodings"},
      {"model_quantize --quantizer qat" + weights + small + force, "observer mse", "with --quantizer ptq"},
      {speedup, "images 64", "with --recalibrate"},
      {speedup, "exact-images 3", "with a quantized file"},
      {speedup, "sparse-table t.json", "where single weights are zero"},
      {sense + "--analysis off", "layers conv1", "with --analysis on"},
      {sense + "--split test", "images 32", "with --split train"},
      {"train --model naive --epochs 0" + small + force, "lr 0.1", "with --epochs above 0"},
      {"train --model naive --epochs 1" + small + force, "key net", "with --weights"},
      {"train --model naive --epochs 1" + small + force, "data good", "with a --dataset that has files"},
      {"predict" + weights, "mean 0.5", "with a picture"},
      {"predict" + weights + "picture.png", "dataset mnist", "without pictures"},
      {"evaluate" + weights, "force", "with --out"},
      {"quickstart --data good" + force, "images 64", "without --data"}};
  for (const auto& [command, option, where] : vain)
    refused(command + " --" + option, 2, "[--" + option.substr(0, option.find(' ')) + "] counts only " + where);
  refused(ptq + "--slim 1e-4", 2, "slim");
  refused(ptq + "--bits weight=4,input=8,output=8", 2, "[--bits] input counts only in a --config file");
  refused("model_quantize --quantizer dorefa --bits weight=4,output=8" + weights + force, 2, "[--bits] output counts");
  refused(ptq + "--bits weight=4,output=8 --budget \"size<0.2\"", 2, "[--bits] weight: --budget chooses");
  refused("evaluate --images 64" + weights, 2, "images");  // which it has no use for, whatever else is given
}

TEST_CASE("damaged quantized files, and what is not quantized") {
  house();
  REQUIRE(House::run("model_quantize --weights good/model.pth --quantizer ptq --images 64 --calibrate 16 --test-images "
                     "16 --batch-sizes 1 --repeats 1 --out q8") == 0);
  const std::string whole = slurp("q8/model.pth");
  write("cut8.pth", whole.substr(0, whole.size() / 2));
  write("short8.pth", whole.substr(0, whole.size() - 1));
  for (const char* file : {"cut8.pth", "short8.pth"})
    for (const std::string tool : {"evaluate --weights ", "predict --weights ", "model_speedup --weights "})
      refused(tool + file + force, 3, file);
  const auto damaged = [](const char* part, const std::string& entry, const Tensor& instead) {
    auto value = std::get<pth::Dict>(static_cast<pth::Value::variant&&>(pth::load("q8/model.pth")));
    for (auto& [name, dict] : value)
      if (name == part)
        for (auto& [key, v] : std::get<pth::Dict>(dict))
          if (key == entry) v = instead;
    pth::save("damaged8.pth", value, R"({"model": "naive"})");
  };
  const std::string evaluate = "evaluate --weights damaged8.pth" + force;
  damaged("ports", "fc2.weight_scale", Tensor::full({10}, std::nanf("")));
  refused(evaluate, 3, "fc2.weight_scale");
  damaged("ports", "fc2.weight_scale", Tensor::ones({7}));
  refused(evaluate, 3, "fc2.weight_scale");
  damaged("ports", "relu3.output_scale", Tensor::full({}, -1));
  refused(evaluate, 3, "relu3.output_scale");
  damaged("model", "fc2.weight", Tensor::full({10, 500}, -128, DType::s8));
  refused(evaluate, 3, "fc2.weight: [codes] -128");
  refused("evaluate --model lenet --weights q8/model.pth" + force, 3, "as lenet");
  refused("evaluate --weights good/model.pth --codes codes.pth" + force, 2, "is not quantized");
  refused("model_speedup --weights good/model.pth" + force, 2, "carries no masks");
  refused("model_speedup --weights pruned/model.pth --masks pruned/mask.pth --tune" + force, 2, "no single zeros");
  refused("model_quantize --weights q8/model.pth" + force, 2, "is quantized already");
  // Encodings of another network, cut short, or that are none.
  const std::string ptq = "model_quantize --quantizer ptq --test-images 16" + force + "--encodings ";
  refused(ptq + "q8/encodings.json --model lenet --float-epochs 0", 3, "encodings of another model?");
  const std::string json = slurp("q8/encodings.json");
  write("cut.json", json.substr(0, json.size() / 2));
  for (const char* file : {"cut.json", "missing.json", "q8/model.pth", "q8/summary.json"})
    refused(ptq + file + " --weights good/model.pth", 3, file);
  refused(ptq + "q8/encodings.json --calibrate 8 --weights good/model.pth", 2, "--calibrate");
  // Ranges of another network.
  refused(
      "model_quantize --model lenet --quantizer qat --test-images 16 --float-epochs 0 --epochs 0 "
      "--observer-state q8/raw.pth" +
          force,
      3, "for which the model has no place");
}

TEST_CASE("output folders") {
  house();
  refused("train --out keep", 2, "not empty");
  refused("train --out new --resume", 3, "holds no run");
  refused("model_prune --out keep", 2, "not empty");
  refused("train", 2, "--out");
  refused("train --out keep --resume --force", 2, "--force");
  refused("train --out keep --resume --model lenet", 2, "model differs");
  refused("train --out keep/model.pth", 2, "not a folder");
  refused("train --out pruned --resume", 2, "tool differs");
  write("stuff/file", "x");
  refused("train --out stuff --resume", 3, "no run");
  refused("train --model naive --epochs 1 --images 64 --test-images 16 --out keep/model.pth/sub", 3, "sub");
}

TEST_CASE("--force removes what a manifest lists, and nothing else") {
  house();
  const std::string small = "train --model naive --images 64 --test-images 16 --epochs 1 ";
  write("mine/stranger", "x");
  refused(small + "--out mine --force", 2, "no manifest.json");
  fs::remove_all("mine");

  // Strangers' files survive, in our folders too; what an earlier run left goes.
  REQUIRE(House::run("model_prune --model naive --pruner l1 --images 64 --test-images 16 --epochs 1 "
                     "--finetune-epochs 0 --out mine") == 0);
  CHECK(fs::exists("mine/train/last.pth"));
  write("mine/train/data.txt", "x");
  write("mine/model.pth.bak", "x");
  fs::create_directories("mine/empty");
  REQUIRE(House::run(small + "--out mine --force") == 0);
  CHECK_FALSE(fs::exists("mine/train/last.pth"));
  CHECK_FALSE(fs::exists("mine/mask.pth"));
  CHECK(slurp("mine/train/data.txt") == "x");
  CHECK(slurp("mine/model.pth.bak") == "x");
  CHECK(fs::exists("mine/empty"));
  CHECK(fs::exists("mine/last.pth"));

  // A stranger's file under a name of ours is not replaced; what a command reads is not removed.
  write("mine/masked.pth", "x");
  refused("model_speedup --weights pruned/model.pth --masks pruned/mask.pth --out mine --force", 2, "masked.pth");
  CHECK(slurp("mine/masked.pth") == "x");
  refused("evaluate --weights mine/model.pth --out mine --force", 2, "--weights reads");
  CHECK(fs::exists("mine/model.pth"));

  // What a manifest says is not believed.
  const std::string manifest = slurp("mine/manifest.json");
  fs::create_directories("outside");
  write("outside/file", "x");
  fs::create_directory_symlink(fs::absolute("outside"), "mine/link");
  for (const std::string name : {"../outside/file", "/etc/passwd", "link/file", "train/../../outside/file", "", ".",
                                 "./model.pth", "model.pth/"}) {
    write("mine/manifest.json", R"({"files": [")" + name + R"("], "folders": []})");
    refused(small + "--out mine --force", 3, "does not lie in this folder");
    CHECK(slurp("outside/file") == "x");
  }
  for (const std::string damaged : {"", "{", "[]", "{}", R"({"files": [1], "folders": []})"}) {
    write("mine/manifest.json", damaged);
    refused(small + "--out mine --force", 3, "manifest.json");
  }
  write("mine/manifest.json", manifest);

  // Names are listed before they are written, so that a killed run can be replaced.
  CHECK(interrupted(long_run_to("cut"), "cut/settings.json", SIGKILL) == -SIGKILL);
  CHECK(slurp("cut/manifest.json").find("best.pth") != std::string::npos);
  write("cut/last.pth.espalier.tmp", "left behind");
  REQUIRE(House::run("evaluate --weights good/model.pth --test-images 16 --out cut --force") == 0);
  std::vector<std::string> left;
  for (const auto& [path, bytes] : contents("cut")) left.push_back(path);
  CHECK(left == std::vector<std::string>{"cut/manifest.json", "cut/settings.json", "cut/summary.json"});
}

TEST_CASE("links, devices and FIFOs stay what they are") {
  house();
  const std::string logits = "evaluate --weights good/model.pth --test-images 16 --logits ";
  REQUIRE(::mkfifo("fifo", 0600) == 0);
  refused(logits + "fifo", 3, "fifo");
  CHECK(fs::is_fifo("fifo"));
  CHECK(House::run(logits + "/dev/null") == 0);
  CHECK(fs::is_character_file("/dev/null"));
  write("target", "old");
  fs::create_symlink("target", "to_target");
  CHECK(House::run(logits + "to_target") == 0);
  CHECK(fs::is_symlink("to_target"));
  CHECK(slurp("target") != "old");
  for (const char* endless : {"fifo", "/dev/zero", "keep"}) {
    refused(std::string("evaluate --weights ") + endless, 3, "expected a file");
    refused(std::string("model_prune --weights good/model.pth --pruner l1 --config ") + endless + force, 3,
            "expected a file");
  }
  fs::create_directories("mnist_fifo");
  REQUIRE(::mkfifo("mnist_fifo/train-images-idx3-ubyte", 0600) == 0);
  refused("train --model naive --dataset mnist --data mnist_fifo --epochs 1" + force, 3, "expected a file");
}

TEST_CASE("what stdout does not take is an error") {
  house();
  for (const char* command : {"evaluate --weights good/model.pth --test-images 16 --json",
                              "evaluate --weights good/model.pth --test-images 16", "train --help", "train --version"})
    for (const char* to : {"/dev/full", "&-"}) {
      CAPTURE(command);
      CAPTURE(to);
      CHECK(House::run(command, "", to) == 1);
      const std::string err = slurp("err");
      CHECK(err.find("[stdout] cannot be written") != std::string::npos);
    }
}

TEST_CASE("a network of NaN answers with an error") {
  house();
  auto value = std::get<pth::Dict>(static_cast<pth::Value::variant&&>(pth::load("good/model.pth")));
  for (auto& [name, v] : value)
    if (name == "conv2.weight") std::get<Tensor>(v).mutable_data()[7] = std::nanf("");
  pth::save("nan.pth", value);
  for (const std::string tool : {"evaluate", "train --epochs 1", "model_prune"})
    refused(tool + " --model naive --weights nan.pth" + force, 3, "conv2.weight holds values that are not finite");
  // Finite weights whose logits are not.
  for (auto& [name, v] : value)
    if (name == "conv2.weight" || name == "fc1.weight" || name == "fc2.weight")
      v = Tensor::full(std::get<Tensor>(v).shape(), 1e30f);
  pth::save("huge.pth", value);
  refused("evaluate --model naive --test-images 16 --weights huge.pth", 1, "image 0");
  refused("model_quantize --quantizer ptq --model naive --images 16 --test-images 16 --weights huge.pth" + force, 3,
          "values are not finite");
}

TEST_CASE("evaluate says what a checkpoint with masks does") {
  house();
  REQUIRE(House::run("model_prune --weights good/model.pth --pruner l1 --sparsity 0.8 --images 64 --test-images 16 "
                     "--finetune-epochs 1 --out masked") == 0);
  const std::string evaluate = "evaluate --test-images 64 --weights masked/", logits = " --logits ";
  REQUIRE(House::run(evaluate + "finetune/last.pth" + logits + "a.pth") == 0);
  REQUIRE(House::run(evaluate + "model.pth" + logits + "b.pth") == 0);
  CHECK(slurp("a.pth") == slurp("b.pth"));
  // Pruning goes on from it, and speedup needs no other file.
  CHECK(House::run("model_speedup --weights masked/finetune/last.pth --repeats 1 --batch-sizes 1 --out masked_small") ==
        0);
  CHECK(House::run("model_prune --weights masked/finetune/last.pth --pruner level --finetune-epochs 0 --out again") ==
        0);
  REQUIRE(House::run("train --weights masked/finetune/last.pth --images 64 --test-images 16 --epochs 1 --out tuned") ==
          0);
  CHECK(House::run("evaluate --weights tuned/model.pth --test-images 16") == 0);
}

TEST_CASE("a full disk, as a file-size limit") {
  const std::string limit = "ulimit -f 100; ";  // blocks of 512 bytes
  const std::string small = " --model naive --images 64 --test-images 16 --epochs ";
  refused("train" + small + "1 --out full", 3, "full", limit);
  for (const auto& [path, bytes] : contents("full")) CHECK(path.find(".pth") == std::string::npos);
  fs::copy("keep", "disk", fs::copy_options::recursive);
  refused("train" + small + "2 --out disk --resume", 3, "last.pth", limit);
  CHECK(slurp("disk/last.pth") == slurp("keep/last.pth"));  // the old checkpoint stays
  refused("model_speedup --weights pruned/model.pth --masks pruned/mask.pth --out full2", 3, "full2", limit);
  refused("model_prune --weights good/model.pth --finetune-epochs 0 --pruner level --out full3", 3, "full3", limit);
  write("keep/logits.pth", "old");
  refused("evaluate --weights good/model.pth --test-images 3000 --logits keep/logits.pth", 3, "logits.pth", limit);
}

TEST_CASE("stopped in mid-epoch or killed, then resumed: the same bits") {
  house();
  REQUIRE(House::run(long_run_to("whole")) == 0);
  CHECK(interrupted(long_run_to("stopped"), "stopped/settings.json", SIGINT) == 130);
  CHECK(slurp("err") == "train: stopped by SIGINT; repeat the command with --resume to go on\n");
  CHECK(fs::exists("stopped/last.pth"));
  CHECK_FALSE(fs::exists("stopped/model.pth"));
  CHECK(interrupted(long_run_to("killed"), "killed/last.pth", SIGKILL) == -SIGKILL);
  CHECK_FALSE(fs::exists("killed/model.pth"));
  // With the options given again, or, since they are recorded, with none.
  for (const std::string out : {"stopped", "killed"}) {
    CAPTURE(out);
    REQUIRE(House::run("train --resume --threads 1 --out " + out +
                       (out == "stopped" ? "" : std::string(long_run).substr(5) + "--log-steps killed.csv")) == 0);
    CHECK(slurp("out").find("goes on with epoch ") != std::string::npos);
    CHECK(slurp(out + "/model.pth") == slurp("whole/model.pth"));
    CHECK(slurp(out + "/settings.json").find(out + ".csv") != std::string::npos);
  }
  CHECK(slurp("stopped.csv") == slurp("whole.csv"));
  refused("train --resume --out stopped --lr 0.03", 2, "lr differs");

  // A damaged checkpoint falls back to the one before.
  fs::copy("stopped", "broken", fs::copy_options::recursive);
  write("broken/last.pth", slurp("stopped/last.pth").substr(0, 1000));
  REQUIRE(House::run("train --resume --out broken") == 0);
  CHECK(slurp("out").find("warning: ") != std::string::npos);
  CHECK(slurp("out").find("last.pth") != std::string::npos);
  CHECK(slurp("broken/model.pth") == slurp("whole/model.pth"));
}

TEST_CASE("model_prune --resume alone takes the recorded options, wherever it was stopped") {
  house();
  const std::string run = "model_prune --model naive" ESPALIER_LONG
                          "--test-images 32 --epochs 1 --lr 0.02 --pruner l1 "
                          "--sparsity 0.3 --finetune-epochs 1 --out ";
  REQUIRE(House::run(run + "prune_whole") == 0);
  const std::string sign[2] = {"prune0/settings.json", "prune1/train/best.pth"};  // in the first stage and after it
  for (const int i : {0, 1}) {
    const std::string out = "prune" + std::to_string(i);
    CAPTURE(out);
    CHECK(interrupted(run + out, sign[i], SIGINT) == 130);
    CHECK_FALSE(fs::exists(out + "/model.pth"));
    REQUIRE(House::run("model_prune --resume --out " + out) == 0);
    for (const char* file : {"/model.pth", "/mask.pth"})
      CHECK(slurp(out + file) == slurp(std::string("prune_whole") + file));
  }
  refused("model_prune --resume --out prune0 --sparsity 0.4", 2, "sparsity differs");
  refused("model_prune --resume --out prune0 --finetune-epochs 4", 2, "finetune-epochs differs");
}

TEST_CASE(
    "model_prune that prunes as it learns, stopped while evidence is gathered or later, ends with the same bits") {
  house();
  const std::string run = "model_prune --model naive" ESPALIER_LONG
                          "--test-images 32 --epochs 0 --pruner apoz --prune-schedule agp "
                          "--sparsity "
                          "0.5 --statistics-batches 12 --save-masks --finetune-epochs 4 --out ";
  REQUIRE(House::run(run + "agp_whole") == 0);
  const std::string sign[2] = {"agp0/settings.json", "agp1/finetune/best.pth"};
  for (const int i : {0, 1}) {
    const std::string out = "agp" + std::to_string(i);
    CAPTURE(out);
    CHECK(interrupted(run + out, sign[i], SIGINT) == 130);
    REQUIRE(House::run("model_prune --resume --out " + out) == 0);
    for (const char* file : {"/model.pth", "/mask.pth", "/masks/001.pth", "/schedule.csv"})
      CHECK(slurp(out + file) == slurp(std::string("agp_whole") + file));
  }
}

TEST_CASE("budgets and searches: what cannot be meant is refused, what is missed says by how much") {
  house();
  const std::string prune =
      "model_prune --weights good/model.pth --pruner l1 --finetune-epochs 0 --images 64 --test-images 16 "
      "--search-images 16" +
      force;
  refused(prune + " --budget 'size<1M'", 2, "[budget] expected conditions as params<1M");
  refused(prune + " --budget 'flops<50%' --sparsity 0.5", 2, "in the place of --sparsity");
  refused(prune + " --search netadapt --sparsity 0.5 --pruner obs", 2, "rewrites the weights that stay");
  refused(prune + " --search netadapt --sparsity 0.5 --pruner movement", 2, "learns in training what to prune");
  refused(prune + " --search netadapt --sparsity 0.5 --pruner taylor --statistics-batches 900", 3, "batches");
  refused(prune + " --search netadept", 2, "did you mean \"netadapt\"");
  refused(prune + " --search netadapt --search-settings x", 2, "expected NAME=NUMBER");
  refused(prune + " --search netadapt --search-settings steps=3", 2, "there is no setting \"steps\"");
  refused(prune + " --search netadapt --search-images 64", 2, "leave none to train on");
  refused(prune + " --search netadapt --prune-schedule agp", 2, "counts only without --search");
  const std::string small =
      "model_prune --weights good/model.pth --pruner l1 --finetune-epochs 0 --images 64 --test-images 16 "
      "--search-images 16 --search annealing --sparsity 0.4 --out searched";
  REQUIRE(House::run(small) == 0);
  CHECK(fs::exists("searched/search_history.csv"));
  CHECK(House::run("model_speedup --weights searched/model.pth --masks searched/mask.pth --repeats 1 --out small") ==
        0);
  const std::string model = slurp("searched/model.pth");
  REQUIRE(House::run("model_prune --resume --out searched") == 0);
  CHECK(slurp("searched/model.pth") == model);
  write_file("searched/search_history.csv", "sparsity,performance,config_list\n0.4,0.5,\"[]\"\n");
  refused("model_prune --resume --out searched", 3, "this is the history of another search");
  write_file("searched/search_history.csv", "nonsense\n");
  refused("model_prune --resume --out searched", 3, "line 1 is not sparsity,performance,config_list");
  CHECK(House::run(small.substr(0, small.find("--search annealing")) + "--budget 'params<200' --out missed") == 1);
  CHECK(slurp("err").find("model_prune: [--budget] missed: params: ") == 0);
  CHECK(fs::exists("missed/model.pth"));
  CHECK(slurp("missed/summary.json").find("\"missed\"") != std::string::npos);
}

TEST_CASE("--seeds runs the tool once per seed and says how far results spread") {
  house();
  const std::string run =
      "model_prune --weights good/model.pth --pruner l1 --finetune-epochs 1 --images 64 --test-images 16 --out ";
  REQUIRE(House::run(run + "spread --seeds 2 --seed 5") == 0);
  CHECK(slurp("out").find("over 2 seeds") != std::string::npos);
  CHECK(fs::exists("spread/seed-5/model.pth"));
  REQUIRE(House::run(run + "one --seed 6") == 0);
  CHECK(slurp("one/model.pth") == slurp("spread/seed-6/model.pth"));
  REQUIRE(House::run("model_prune --resume --out spread") == 0);
  refused(run + "none --seeds 0", 2, "[--seeds] expected 1 to 1000");
  // What one run misses all together miss.
  CHECK(House::run("model_prune --weights good/model.pth --pruner l1 --images 64 --test-images 16 --search-images 16 "
                   "--budget 'params<200' --seeds 2 --out short") == 1);
  CHECK(slurp("err").find("model_prune: [--seeds] not what was asked for, with seed 0, 1") != std::string::npos);
  CHECK(fs::exists("short/seed-1/model.pth"));
  CHECK(slurp("short/summary.json").find("\"codes\": [") != std::string::npos);
  // Results of before are not taken for those of a run that failed.
  CHECK(House::run("model_prune --weights missing.pth --pruner l1 --images 64 --seeds 2 --out short --force") != 0);
  CHECK(slurp("err").find("[--seeds] the run of seed 0 ended with code 3 and wrote no summary") != std::string::npos);
}

TEST_CASE("quickstart stops on the first signal, and --resume alone goes on") {
  house();
  CHECK(interrupted("quickstart --images 640 --out quick", "quick/settings.json", SIGTERM) == 143);
  CHECK(slurp("err") == "quickstart: stopped by SIGTERM; repeat the command with --resume to go on\n");
  CHECK(fs::exists("quick/train/last.pth"));
  fs::remove("out");
  CHECK(interrupted(
            "quickstart --resume --out quick", [] { return says("goes on with epoch 1"); }, SIGINT) == 130);
  CHECK(says("goes on with epoch 1 after "));
}

TEST_CASE("--checkpoint-minutes bounds what a kill loses") {
  house();
  // Killed within the first epoch; without the option there would be no checkpoint.
  CHECK(interrupted(long_run_to("bounded") + " --checkpoint-minutes 0.0005", "bounded/last.pth", SIGKILL) == -SIGKILL);
  CHECK_FALSE(fs::exists("bounded/best.pth"));
  REQUIRE(House::run("train --resume --out bounded") == 0);
  CHECK(slurp("out").find("goes on with epoch 1 after ") != std::string::npos);
  if (!fs::exists("whole")) REQUIRE(House::run(long_run_to("whole")) == 0);
  CHECK(slurp("bounded/model.pth") == slurp("whole/model.pth"));
}

TEST_CASE("every tool stops on the first signal") {
  house();
  const auto stops = [](const std::string& command, const std::string& sign, int signal) {
    CAPTURE(command);
    fs::remove("err");
    CHECK(interrupted(command, sign, signal) == 128 + signal);
    const std::string err = slurp("err");
    CHECK(std::count(err.begin(), err.end(), '\n') == 1);
    CHECK(err.find("stopped by SIG") != std::string::npos);
  };
  stops("evaluate --weights good/model.pth --test-images 12000 --out stop1", "stop1/settings.json", SIGTERM);
  stops("model_speedup --weights pruned/model.pth --masks pruned/mask.pth --repeats 100000 --out stop2",
        "stop2/shrunk.pth", SIGINT);
  stops("model_prune --model naive --images 5000 --test-images 16 --epochs 3 --pruner l1 --out stop3",
        "stop3/settings.json", SIGINT);
}

TEST_CASE("sensitivity, report and teachers: options that do not fit, files that are none") {
  house();
  const std::string s = "sensitivity --weights good/model.pth --images 32 --sparsities 0.5 ";
  refused("sensitivity" + force, 2, "expected --weights");
  refused(s + "--prune-type l3" + force, 2, "expected one of l1, l2, fine-grained");
  refused(s + "--sparsities 0.5,1" + force, 2, "a sparsity is 1");
  refused(s + "--sparsities 0.5,x" + force, 2, "got \"x\"");
  refused(s + "--early-stop dropped" + force, 2, "a colon and a number");
  refused(s + "--early-stop fell:0.1" + force, 2, "minimize, maximize, dropped or raised");
  refused(s + "--early-stop dropped:much" + force, 2, "got \"much\"");
  refused(s + "--layers conv9" + force, 2, "\"conv9\"");
  refused(s + "--prune-type fine-grained --by group" + force, 2, "no groups");
  refused(s + "--channel-dependency nowhere/sets.csv" + force, 2, "its folder does not exist");
  CHECK(House::run(s + "--layers conv1 --out senses") == 0);
  write("senses/sensitivity.csv", "layername,0.5\nconv9,1\n");
  CHECK(House::run("sensitivity --resume --out senses") == 3);
  CHECK(slurp("err").find("line 2") != std::string::npos);

  write("table.csv", "label,accuracy,parameters\na,0.5,100\n");
  write("words.csv", "a,b\n1,2\n");
  write("broken.csv", "label,accuracy,parameters\na,much,100\n");
  refused("report" + force, 2, "expected --csv");
  refused("report --csv missing.csv" + force, 3, "missing.csv");
  refused("report --csv good" + force, 3, "good");
  refused("report --csv words.csv" + force, 3, "none of the pictures");
  refused("report --csv broken.csv" + force, 3, "\"much\"");
  refused("report --csv table.csv --kind pie" + force, 2, "expected one of training");

  const std::string t = "train --model naive --images 32 --test-images 16 --epochs 1 ";
  refused(t + "--temperature 3" + force, 2, "counts only with --teacher");
  refused(t + "--teacher missing.pth" + force, 3, "missing.pth");
  refused(t + "--teacher good/model.pth --temperature 0" + force, 2, "temperature");
  refused(t + "--teacher good/model.pth --hints conv1" + force, 2, "expected LAYER=LAYER");
  refused(t + "--teacher good/model.pth --hints conv1=conv7" + force, 2, "no layer \"conv7\"");
  refused("train --model vgg11 --images 32 --test-images 16 --epochs 1 --teacher good/model.pth" + force, 2,
          "[--teacher]");
}

TEST_CASE("with --json stdout holds JSON, too, where something is wrong") {
  house();
  for (const auto& [command, code] : std::map<std::string, int>{{"train --json", 2},
                                                                {"train --json --no-such-option", 2},
                                                                {"train --json --lr fast --out keep --force", 2},
                                                                {"espalier --json", 2},
                                                                {"espalier trian --json", 2},
                                                                {"evaluate --json --weights nowhere.pth", 3}}) {
    CAPTURE(command);
    CHECK(House::run(command) == code);
    const auto said = nlohmann::json::parse(slurp("out"));
    CHECK(said.at("exit_code") == code);
    CHECK(slurp("err").find(said.at("error").get<std::string>()) != std::string::npos);
  }
  for (const auto& [command, key] : std::map<std::string, std::string>{{"train --json --help", "help"},
                                                                       {"evaluate --json --version", "version"},
                                                                       {"espalier --help --json", "help"},
                                                                       {"espalier --version --json", "version"}}) {
    CAPTURE(command);
    CHECK(House::run(command) == 0);
    CHECK(nlohmann::json::parse(slurp("out")).at(key).get<std::string>().size() > 20);
  }
}

TEST_CASE("bash completes tools and their options") {
  house();
  const auto completed = [&](const std::string& line) {
    write("completed", "source " ESPALIER_SOURCE_DIR "/examples/completion.bash; COMP_WORDS=(" ESPALIER_EXAMPLES
                       "/espalier " +
                           line +
                           "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _espalier; "
                           "printf '%s ' \"${COMPREPLY[@]}\"");
    REQUIRE(std::system("bash completed > out 2> err") == 0);
    CHECK(slurp("err") == "");
    return slurp("out");
  };
  CHECK(completed("qu") == "quantize quickstart ");
  CHECK(completed("train --sch") == "--schedule ");
  CHECK(completed("prune --finetune-e") == "--finetune-epochs ");
  CHECK(completed("train --no-such") == " ");
}
