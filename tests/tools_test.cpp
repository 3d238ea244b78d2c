// The tools as functions, in one process, over what only this program registered.
#include <doctest/doctest.h>
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/exact.h>
#include <espalier/core/io/file.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/storage.h>
#include <espalier/core/tape.h>
#include <espalier/data/augment.h>
#include <espalier/data/image_file.h>
#include <espalier/data/images.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>
#include <espalier/tools/tools.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "sanitized.h"

using namespace espalier;

namespace {

struct Answer {
  int code;
  std::string out, err;
};

Answer call(std::vector<std::string> words) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  std::ostringstream out, err;
  auto* const cout = std::cout.rdbuf(out.rdbuf());
  auto* const cerr = std::cerr.rdbuf(err.rdbuf());
  const int code = tool::main(int(argv.size()), argv.data());
  std::cout.rdbuf(cout);
  std::cerr.rdbuf(cerr);
  return {code, out.str(), err.str()};
}

// A folder that the tools write into, gone afterwards.
struct House {
  std::filesystem::path root =
      std::filesystem::temp_directory_path() / ("espalier_tools_house_" + std::to_string(::getpid()));
  House() { std::filesystem::create_directories(root); }
  ~House() { std::filesystem::remove_all(root); }
  std::string operator/(const std::string& name) const { return (root / name).string(); }

  // Runs a command line, in which @ stands for the folder; it must succeed. What it prints with --json.
  nlohmann::json run(const std::string& line) const {
    CAPTURE(line);
    std::vector<std::string> words{"mine"};
    std::istringstream in(line + " --json");
    for (std::string word; in >> word;) {
      if (word[0] == '@') word.replace(0, 1, root.string());
      words.push_back(word);
    }
    const Answer a = call(words);
    CAPTURE(a.err);
    REQUIRE(a.code == 0);
    return nlohmann::json::parse(a.out);
  }
};

std::vector<float> logits(const std::string& path) {
  return std::get<Tensor>(*pth::load(path).find("logits")).to_vector();
}

ImageSet grey(Split) {
  return {"grey", Tensor::zeros({8, 1, 28, 28}, DType::u8), Tensor::zeros({8}, DType::s64), {{.5f}, {.25f}}};
}

}  // namespace

TEST_CASE("predict stops on a signal, and the next tool starts anew") {
  const auto path = std::filesystem::temp_directory_path() / ("espalier_tools_" + std::to_string(::getpid()) + ".pth");
  save_model(path.string(), *make_model("naive"), "naive");
  static bool interrupts = true;
  register_dataset("interrupting", [](const std::string&, Split split) {
    if (interrupts) std::raise(SIGINT);  // as if Ctrl-C came while images are read
    return grey(split);
  });
  const std::vector<std::string> predict{"mine", "predict", "--weights", path.string(), "--dataset", "interrupting"};
  const Answer stopped = call(predict);
  CHECK(stopped.code == 130);
  CHECK(stopped.out.empty());
  CHECK(stopped.err == "predict: stopped by SIGINT; nothing was predicted\n");
  interrupts = false;
  const Answer went_on = call(predict);
  CHECK(went_on.code == 0);
  CHECK(went_on.out.find("image 4: class ") != std::string::npos);
  std::filesystem::remove(path);
}

TEST_CASE("one program is every tool") {
  CHECK(call({"mine"}).code == 2);
  const Answer wrong = call({"mine", "trian"});
  CHECK(wrong.code == 2);
  CHECK(wrong.err.find("did you mean \"train\"") != std::string::npos);
  const Answer help = call({"mine", "--help"});
  CHECK(help.code == 0);
  CHECK(help.out.find("speedup ") != std::string::npos);
  for (const char* name : {"model_prune", "prune"})
    CHECK(call({"mine", name, "--help"}).out.find("--sparsity") != std::string::npos);
  const std::string list = call({"mine", "--list"}).out;
  CHECK(list.find("quantize\n") != std::string::npos);
  const std::string version = call({"mine", "--version"}).out;
  for (const char* what :
       {"espalier 0.", "\ncommit ", "\ncompiler ", "\noneDNN ", "\nONNX ", "\nCUDA ", "\ninstructions AVX2"})
    CHECK(version.find(what) != std::string::npos);
}

TEST_CASE("more images than the machine has memory for are refused, not drawn") {
  const SyntheticOptions too_many{.image = {1, 28, 28}, .count = int64_t(machine_memory() / 784 + 1)};
  CHECK_THROWS_WITH_AS(synthetic_images(Split::train, too_many), doctest::Contains("this machine's memory"), Error);
}

namespace {

const std::string few = " --test-images 32 --batch-sizes 1 --repeats 1";

void all_integers(const nlohmann::json& comparison, double ratio = 0.3) {
  CHECK(comparison["integers"]["in_integers"] == comparison["integers"]["layers"]);
  CHECK(comparison["exact"]["codes"] > 1000);
  CHECK(comparison["exact"]["differ"] == 0);
  CHECK(comparison["file_ratio"] <= ratio);
  for (const char* side : {"float", "integer"}) {
    CHECK(comparison[side]["test"]["examples"] == 32);
    CHECK(comparison[side]["latency"]["batch_1"]["median_ms"] > 0);
  }
}

}  // namespace

TEST_CASE("quantized files: every tool runs them in integers") {
  const House h;
  h.run("train --model naive --images 192 --test-images 32 --epochs 1 --lr 0.02 --out @/dense");
  const auto ptq =
      h.run("model_quantize --weights @/dense/model.pth --quantizer ptq --images 192 --calibrate 64 --out @/ptq" + few);
  all_integers(ptq);
  CHECK(ptq["calibration"]["images"] == 64);
  CHECK(ptq["calibration"]["observers"].size() == 5);
  const auto qat = h.run(
      "model_quantize --weights @/dense/model.pth --quantizer qat --images 64 --epochs 1 --lr 0.01 --out @/qat" + few);
  all_integers(qat);
  CHECK(std::filesystem::exists(h / "qat/report/quantized.csv"));
  for (const char* file :
       {"model.pth", "float.pth", "raw.pth", "encodings.json", "summary.json", "report/integers.csv"})
    for (const std::string out : {"ptq/", "qat/"}) CHECK(std::filesystem::exists(h / (out + file)));
  for (const std::string out : {"ptq/", "qat/"}) CHECK(std::filesystem::exists(h / (out + "model.onnx")) == has_onnx());

  // evaluate: the engine's logits, and its codes by the names of ONNX tensors.
  const auto evaluated = h.run("evaluate --weights @/ptq/model.pth --test-images 9 --logits @/l.pth --codes @/c.pth");
  CHECK(evaluated["integers"]["in_integers"] == 4);
  CHECK(evaluated["float"]["test"]["examples"] == 9);
  CHECK(evaluated["integer"]["test"] == evaluated["test"]);
  CHECK(evaluated["exact"]["differ"] == 0);
  CHECK(evaluated["tensors_ratio"] < 0.3);
  const LoadedModel loaded = load_model(h / "ptq/model.pth");
  const ImageSet set = synthetic_images(Split::test, {.image = {1, 28, 28}, .count = 9});
  const Tensor x = normalize(set.images, set.normalize);
  const Graph graph = trace(*loaded.module, x);
  const Exact meaning = exact(graph, {x});
  CHECK(logits(h / "l.pth") == meaning.output.to_vector());
  const pth::Value codes = pth::load(h / "c.pth");
  CHECK(std::get<pth::Dict>(codes).size() == meaning.codes.size());
  for (const auto& [name, t] : meaning.codes) {
    const pth::Value* found = codes.find(name + ".codes");
    REQUIRE(found != nullptr);
    CHECK(std::get<Tensor>(*found).shape() == t.shape());
    CHECK(std::get<Tensor>(*found).to_vector<uint8_t>() == t.to_vector<uint8_t>());
  }
  // predict sees the classes of those logits; model_speedup compares.
  const auto seen = h.run("predict --weights @/ptq/model.pth");
  CHECK(seen["classes"].size() == 5);
  CHECK(seen["float"]["classes"].size() == 5);
  for (size_t i = 0; i < 5; ++i) {
    const double a = seen["probabilities"][i], b = seen["float"]["probabilities"][i];
    CHECK(a != b);  // the one is of codes, the other of floats
    CHECK(a == doctest::Approx(b).epsilon(0.1));
  }
  const auto table = h.run("model_speedup --weights @/ptq/model.pth --layers --out @/table" + few);
  all_integers(table["integers"]);
  CHECK(table["layers"].size() > 4);
  CHECK(std::filesystem::exists(h / "table/report/integers.csv"));
  // A quantized file is not quantized again.
  CHECK(call({"mine", "model_quantize", "--weights", h / "ptq/model.pth", "--out", h / "again"}).code == 2);
  CHECK_FALSE(std::filesystem::exists(h / "again"));
}

TEST_CASE("what training has beside its recipe: optimisers, clipped gradients, a plateau, smoothed labels, a teacher") {
  const House h;
  const auto text = [&](const std::string& file) {
    const auto bytes = read_file(h / file, 1 << 22);
    return std::string(bytes.begin(), bytes.end());
  };
  const std::string train = "train --model naive --images 64 --test-images 16 --augment none ";
  h.run(train + "--epochs 1 --lr 0.02 --out @/first");
  const auto held = h.run(
      "train --model lenet --images 64 --test-images 16 --epochs 3 --lr 1 --momentum 0 --weight-decay 0 --clip-norm "
      "1e-12 "
      "--schedule plateau:0.5:0 --log-steps @/held.csv --out @/held");
  CHECK(held["steps"] == 3);
  // Steps that are clipped to nothing lower no loss, so that the rate falls after the second epoch.
  CHECK(text("held.csv").find("\n1,") != std::string::npos);
  CHECK(text("held.csv").find(",1\n") != std::string::npos);
  CHECK(text("held.csv").find(",0.5\n") != std::string::npos);
  std::vector<std::string> models;
  for (const std::string how : {"sgd", "adam", "adamw", "rmsprop", "sgd --clip-norm 0.01", "sgd --label-smoothing 0.2",
                                "sgd --teacher @/first/model.pth"}) {
    CAPTURE(how);
    h.run(train + "--epochs 1 --force --out @/one --optimizer " + how);
    models.push_back(text("one/model.pth"));
    for (size_t i = 0; i + 1 < models.size(); ++i) CHECK(models[i] != models.back());
  }

  const std::string quantize = "model_quantize --weights @/first/model.pth --images 64 --augment none --lr 0.01" + few;
  models.clear();
  for (const std::string how : {"--epochs 1", "--epochs 1 --clip-norm 0.01", "--epochs 1 --label-smoothing 0.2",
                                "--epochs 1 --teacher @/one/model.pth", "--epochs 3 --schedule plateau:0.5:0"}) {
    CAPTURE(how);
    const auto said = h.run(quantize + " --quantizer qat --force --out @/qat " + how);
    CHECK(said.contains("teacher") == (how.find("teacher") != std::string::npos));
    models.push_back(text("qat/raw.pth"));
    for (size_t i = 0; i + 1 < models.size(); ++i) CHECK(models[i] != models.back());
  }
}

TEST_CASE("what post-training quantization has beside calibration: each says what it did, and the codes follow") {
  const House h;
  h.run("train --model naive --images 192 --test-images 32 --epochs 1 --lr 0.02 --out @/dense");
  const std::string ptq =
      "model_quantize --weights @/dense/model.pth --quantizer ptq --bits weight=3,output=8 "
      "--images 192 --calibrate 64 --observer min_max --force --out @/ptq" +
      few;
  const auto plain = h.run(ptq);
  const auto weights = [&] { return read_file(h / "ptq/model.pth", 1 << 24); };
  std::vector<std::vector<char>> files{weights()};
  const std::vector<std::pair<std::string, const char*>> all{
      {" --equalize", "equalized"}, {" --adaround", "adaround"}, {" --bias-correction", "bias_correction"}};
  for (const auto& [option, what] : all) {
    CAPTURE(what);
    if (address_sanitizer && what == std::string("adaround")) continue;  // thousands of steps, which ptq_test takes
    CHECK_FALSE(plain.contains(what));
    const auto said = h.run(ptq + option);
    all_integers(said, 0.2);
    REQUIRE(said.contains(what));
    if (what == std::string("adaround")) CHECK(said[what]["after"] < said[what]["before"]);
    if (what == std::string("bias_correction")) CHECK(said[what]["changed"] > 0);
    if (what == std::string("equalized")) CHECK(said[what]["scaled"] > 0);
    for (const auto& before : files) CHECK(before != weights());
    files.push_back(weights());
  }
}

TEST_CASE("model_prune: criteria and schedules go together, and say when what goes") {
  const House h;
  const std::string run = "model_prune --model naive --images 96 --test-images 16 --epochs 0 ";
  const auto text = [&](const std::string& name) {
    std::ifstream file(h / name);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const auto agp = h.run(run + "--pruner TaylorFOWeightFilterPruner --prune-schedule AGPPruner --sparsity 0.6 " +
                         "--finetune-epochs 4 --save-masks --out @/agp");
  CHECK(agp["pruner"] == "taylor");
  CHECK(text("agp/schedule.csv") == "epoch,sparsity\n0,0\n1,0.6\n2,0.6\n3,0.6\n");
  CHECK(agp["layers"][1]["kept"] == 20);
  for (const int update : {0, 1, 2})
    CHECK(std::filesystem::exists(h / ("agp/masks/00" + std::to_string(update) + ".pth")));
  CHECK_FALSE(std::filesystem::exists(h / "agp/masks/003.pth"));
  CHECK(text("agp/masks/002.pth") == text("agp/mask.pth"));

  const auto lottery = h.run(run + "--pruner level --prune-schedule lottery --prune-iterations 2 --sparsity 0.75 " +
                             "--finetune-epochs 1 --out @/lottery");
  CHECK(lottery["layers"][0]["kept"] == 125);
  CHECK(std::filesystem::exists(h / "lottery/round2/last.pth"));
  CHECK(text("lottery/schedule.csv") == "round,sparsity\n0,0\n1,0.5\n2,0.75\n3,0.75\n");

  const auto raw = h.run(run + "--pruner l1 --global --finetune-epochs 0 --out @/raw");
  const auto fair = h.run(run + "--pruner l1 --global --normalize mean --finetune-epochs 0 --out @/fair");
  CHECK(raw["layers"][0]["kept"] != fair["layers"][0]["kept"]);
  const auto linear =
      h.run(run + "--pruner l1 --prune-schedule linear --sparsity 0.5 --finetune-epochs 1 --out @/linear");
  CHECK(linear["layers"][1]["kept"] == 25);  // its end is an epoch that begins
  CHECK(linear["notes"].empty());
  const auto rounds = h.run(run + "--pruner l1 --prune-schedule iterative --prune-iterations 5 --sparsity 0.8 " +
                            "--finetune-epochs 2 --out @/rounds");
  CHECK(rounds["notes"].dump().find("goes on to epoch 4; with --finetune-epochs 2 it ends") != std::string::npos);

  write_file(h / "half.json",
             "[{\"op_types\": [\"Conv2d\"], \"sparsity\": 0.5}]");  // how often is not the list's to say
  h.run(run + "--pruner l1 --prune-schedule admm --prune-iterations 2 --prune-epochs 1 --config @/half.json " +
        "--finetune-epochs 0 --out @/admm_list");
  const auto admm = h.run(run + "--pruner l1 --prune-schedule admm --prune-iterations 2 --prune-epochs 1 " +
                          "--finetune-epochs 0 --out @/admm");
  CHECK(admm["distance_to_pruned"]["conv1"] > 0);
  CHECK(text("admm/schedule.csv") == "epoch,sparsity\n0,0\n1,0\n2,0.5\n3,0.5\n");

  const auto n_m = h.run(run + "--pruner wanda --granularity 2:4 --finetune-epochs 0 --out @/n_m");
  CHECK(n_m["layers"][1]["kept"] == 50 * 10 * 25);
  const auto moved = h.run(run + "--pruner movement --finetune-epochs 2 --finetune-lr 0.01 --out @/moved");
  CHECK(moved["schedule"] == "cubic");
  CHECK(moved["layers"][2]["kept"] == 200000);
  // Evidence comes from the first images in their order, so that others can look at the same ones.
  const std::string same = "--pruner apoz --augment none --shuffle off --dropout off --finetune-epochs 0 ";
  h.run(run + same + "--batch-size 32 --statistics-batches 2 --out @/a");
  h.run(run + same + "--batch-size 64 --statistics-batches 1 --out @/b");
  CHECK(text("a/mask.pth") == text("b/mask.pth"));
}

TEST_CASE("prune, shrink, quantize is a chain of files; so is prune, quantize, shrink, with the same codes") {
  const House h;
  h.run("train --model naive --images 192 --test-images 32 --epochs 1 --lr 0.02 --out @/dense");
  h.run("model_prune --weights @/dense/model.pth --pruner l1 --sparsity 0.5 --finetune-epochs 0 --out @/pruned");
  const std::string quantize = " --quantizer ptq --images 192 --calibrate 32 --observer min_max" + few;
  const std::string masks = " --masks @/pruned/mask.pth";
  h.run("model_speedup --weights @/pruned/model.pth" + masks + " --out @/small --batch-sizes 1 --repeats 1");
  all_integers(h.run("model_quantize --weights @/small/shrunk.pth --out @/small8" + quantize));
  h.run("model_quantize --weights @/pruned/model.pth --out @/pruned8" + quantize);
  const auto shrunk = h.run("model_speedup --weights @/pruned8/model.pth" + masks + " --out @/pruned8small" + few);
  all_integers(shrunk["integers"]);
  CHECK(shrunk["table"]["largest_difference"] == 0);
  h.run("evaluate --test-images 16 --weights @/small8/model.pth --logits @/a.pth");
  h.run("evaluate --test-images 16 --weights @/pruned8small/shrunk.pth --logits @/b.pth");
  h.run("evaluate --test-images 16 --weights @/pruned8/model.pth --logits @/c.pth");
  CHECK(logits(h / "b.pth") == logits(h / "c.pth"));
  // Ranges were seen in two float networks that differ in their order of summing: nearly the same.
  const auto a = logits(h / "a.pth"), b = logits(h / "b.pth");
  double difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference = std::max(difference, std::abs(double(a[i]) - double(b[i])));
  CHECK(difference < 0.2);
}

TEST_CASE("fine-tuning on the shrunk network gives what fine-tuning under masks gives, in files of full size") {
  const House house;
  const std::string prune =
      "model_prune --model naive --images 128 --test-images 32 --epochs 1 --lr 0.02 --pruner l1 "
      "--sparsity 0.6 --finetune-epochs 2 --finetune-lr 0.01 --recalibrate 1 ";
  const auto masked = house.run(prune + "--finetune-on masked --out @/masked");
  const auto shrunk = house.run(prune + "--out @/shrunk");
  CHECK(masked["finetuned_on"] == "masked");
  CHECK(shrunk["finetuned_on"] == "shrunk");
  CHECK(double(shrunk["tuned"]["loss"]) == doctest::Approx(double(masked["tuned"]["loss"])).epsilon(1e-4));
  for (const char* file : {"mask.pth", "model.pth"}) {
    const auto size = [&](const std::string& run) { return std::filesystem::file_size(house / (run + "/" + file)); };
    CHECK(size("masked") == size("shrunk"));
  }
  CHECK(std::filesystem::exists(house / "shrunk/report/kept.csv"));
  CHECK(std::filesystem::exists(house / "shrunk/report/finetune.csv"));
  // A teacher, and hints, by option.
  const auto student = house.run(
      "train --model naive --images 64 --test-images 32 --epochs 1 --teacher @/shrunk/model.pth "
      "--hints conv2=conv2 --out @/student");
  CHECK(student["teacher"]["model"] == "naive");
  CHECK(student["teacher"]["hints"][0]["student"] == "conv2");
}

TEST_CASE("without training, layers make up for lost inputs and batch norms are measured anew") {
  const House h;
  h.run("train --model naive --images 256 --test-images 128 --epochs 3 --lr 0.02 --out @/dense");
  const std::string prune =
      "model_prune --weights @/dense/model.pth --pruner l1 --sparsity 0.6 --finetune-epochs 0 --images 256 "
      "--test-images 128 --force --out @/pruned ";
  const auto loss = [&](const std::string& how) { return h.run(prune + how)["pruned"]["loss"].get<double>(); };
  const double as_it_is = loss("--recalibrate 1"), both = loss("--recalibrate 1 --reconstruct 4");
  CHECK(both < as_it_is);
  const auto taylor = h.run(
      "model_prune --weights @/dense/model.pth --pruner taylor --budget flops<60% --statistics-batches 2 --dropout off "
      "--images 256 --test-images 32 --search-images 64 --finetune-epochs 0 --out @/taylor");
  CHECK(taylor["missed"].empty());
  const auto weights = h.run(
      "model_prune --weights @/dense/model.pth --pruner wanda --granularity channel --budget "
      "flops<60% "
      "--images 256 --test-images 32 --search-images 64 --finetune-epochs 0 --out @/wanda");
  CHECK(weights["after"]["flops"].get<double>() < 0.6 * weights["before"]["flops"].get<double>());
  CHECK(taylor["after"]["flops"].get<double>() < 0.6 * taylor["before"]["flops"].get<double>());
  h.run(
      "model_prune --weights @/dense/model.pth --pruner l1 --search annealing --sparsity 0.4 --images 256 "
      "--test-images 32 "
      "--search-images 64 --finetune-epochs 0 --reconstruct 2 --recalibrate 2 --out @/found");
  const auto model = read_file(h / "found/model.pth", 1 << 24);
  CHECK(h.run("model_prune --resume --out @/found")["pruned"]["accuracy"] > 0.2);
  CHECK(read_file(h / "found/model.pth", 1 << 24) == model);
}

TEST_CASE("sensitivity goes on from its file, and repaired masks are written") {
  const House house;
  save_model(house / "naive.pth", *make_model("naive"), "naive");
  const std::string ask = "sensitivity --weights @/naive.pth --images 64 --sparsities 0.3,0.6 --out @/senses";
  const auto whole = house.run(ask + " --channel-dependency @/sets.csv");
  CHECK(whole["sensitivities"]["conv1"].size() == 2);
  CHECK(std::filesystem::exists(house / "sets.csv"));
  const auto text = [&] {
    const auto bytes = read_file(house / "senses/sensitivity.csv", 1 << 20);
    return std::string(bytes.begin(), bytes.end());
  };
  const std::string csv = text();
  write_file(house / "senses/sensitivity.csv", csv.substr(0, csv.rfind(',')));
  CHECK(house.run("sensitivity --resume --out @/senses")["sensitivities"] == whole["sensitivities"]);
  CHECK(text() == csv);

  house.run(
      "sensitivity --weights @/naive.pth --analysis off --channel-dependency @/sets.csv --group-dependency "
      "@/groups.csv "
      "--out @/dependencies");
  const auto lines = [&](const std::string& file) {
    const auto bytes = read_file(house / file, 1 << 20);
    return std::string(bytes.begin(), bytes.end());
  };
  CHECK(lines("sets.csv") == "Dependency Set,Layers\nSet 1,conv1\nSet 2,conv2\n");
  CHECK(lines("groups.csv") == "Conv Layer Name,Group\nconv1,1\nconv2,1\n");

  house.run("model_prune --weights @/naive.pth --pruner l1 --epochs 0 --finetune-epochs 0 --out @/pruned");
  const auto fixed = house.run(
      "model_speedup --weights @/naive.pth --masks @/pruned/mask.pth --fix-mask-conflict --repeats 1 "
      "--batch-sizes 1 --out @/small");
  CHECK(fixed["mask_conflicts"]["masked_before"] == fixed["mask_conflicts"]["masked_after"]);  // a plan has none
  CHECK(std::filesystem::exists(house / "small/mask.pth"));
  CHECK(lines("small/report/kept.csv").find("layer,total,kept\nconv1,20,10\nconv2,50,25\n") == 0);
}

TEST_CASE("learned scales and frozen norms by the tool; bits under a budget") {
  const House h;
  h.run("train --model naive --images 192 --test-images 32 --epochs 1 --lr 0.02 --out @/dense");
  const std::string dense = "model_quantize --weights @/dense/model.pth --images 128 " + few;
  for (const std::string name : {"lsq", "lsq_plus"}) {
    CAPTURE(name);
    all_integers(h.run(dense + " --quantizer " + name +
                       " --bits weight=4,output=8 --epochs 2 --freeze-norm 1 --lr 0.01 --out @/" + name));
  }

  const auto ptq = h.run(dense + " --quantizer ptq --calibrate 64 --budget size<0.12 --out @/bits");
  all_integers(ptq, 0.2);
  CHECK(ptq["budget"]["of_float"] <= 0.12);
  CHECK(ptq["budget"]["bits"].size() == 4);
  // What the plan counts is what the file holds.
  double bytes = 0;
  const pth::Value file = pth::load(h / "bits/model.pth");
  for (const auto& [name, v] : std::get<pth::Dict>(*file.find("model")))
    if (const auto& t = std::get<Tensor>(v); t.dtype() == DType::u8 || t.dtype() == DType::s8)
      bytes += double(t.bytes());
  CHECK(bytes == ptq["budget"]["bytes"]);
  CHECK(std::filesystem::exists(h / "bits/bits.json"));

  // Milliseconds that nothing meets and that all do; training resumes with the bits that were chosen.
  const std::string qat = " --quantizer qat --epochs 1 --lr 0.01 --calibrate 32 --float-epochs 1 ";
  const auto kept = h.run(dense + qat + "--budget size<0.2,latency@3<10000 --out @/kept");
  CHECK(kept["budget"]["kept"] == true);
  CHECK(kept["integer"]["latency"]["batch_3"]["median_ms"] > 0);
  const auto again = h.run("model_quantize --resume --out @/kept");
  CHECK(again["budget"]["bits"] == kept["budget"]["bits"]);
  CHECK(again["integer"]["test"] == kept["integer"]["test"]);
  // What a resumed run reads of its choice may be anything by then.
  const auto chosen = read_file(h / "kept/bits.json", 1 << 20);
  const std::string good(chosen.begin(), chosen.end());
  const auto swapped = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    return text.replace(text.find(from), from.size(), to);
  };
  for (const std::string& bad :
       {std::string("{}"), good.substr(0, good.size() / 2), swapped("\"conv1\"", "\"conv9\""),
        swapped("\"bits\": 2", "\"bits\": 99"), swapped("\"float_bytes\": ", "\"float_bytes\": -")}) {
    CAPTURE(bad);
    write_file(h / "kept/bits.json", bad);
    const Answer refused = call({"mine", "model_quantize", "--resume", "--out", h / "kept"});
    CHECK(refused.code == 3);
    CHECK(std::count(refused.err.begin(), refused.err.end(), '\n') == 1);
    CHECK(refused.err.find("bits.json") != std::string::npos);
  }
  CHECK(call({"mine", "model_quantize", "--weights", h / "dense/model.pth", "--quantizer", "ptq", "--images", "64",
              "--test-images", "16", "--calibrate", "16", "--budget", "latency@1<0.000001", "--out", h / "none"})
            .code == 2);
  CHECK_FALSE(std::filesystem::exists(h / "none"));
}

TEST_CASE("what a network learnt its pictures by travels with it, and predict reads pictures by it") {
  const House h;
  h.run("train --model naive --images 64 --test-images 16 --epochs 1 --lr 0.02 --out @/first");
  h.run(
      "model_quantize --weights @/first/model.pth --quantizer ptq --images 64 --test-images 16 --repeats 1 "
      "--batch-sizes 1 --out @/codes");
  for (const char* file : {"/first/model.pth", "/first/last.pth", "/codes/model.pth"}) {
    const ImageFacts image = load_model(h.root.string() + file).info.image;
    CHECK(image.mean == std::vector<float>{.5f});
    CHECK(image.std == std::vector<float>{.25f});
    REQUIRE(image.class_names.size() == 10);
    CHECK(image.class_names[1] == "fine stripes across");
  }
  if (has_onnx()) {
    const auto onnx = read_file(h / "codes/model.onnx", 1 << 24);
    const std::string text(onnx.begin(), onnx.end());
    for (const char* part : {"class_names", "[\"coarse stripes across\",\"fine", "NCHW", "[0.25]"})
      CHECK_MESSAGE(text.find(part) != std::string::npos, part);
  }
  if (!has_png()) return;
  const std::string picture = ESPALIER_SOURCE_DIR "/tests/data/images/interlaced.png";
  const LoadedModel model = load_model(h / "first/model.pth");
  const auto probability = [&](float mean, float std) {
    const Tensor x = normalize(resize_crop(read_image(picture, 1), 28, 28), {{mean}, {std}});
    const NoGrad no_grad;
    const auto p = (*model.module)(x).to_vector();
    return std::exp(double(*std::max_element(p.begin(), p.end())));  // the model's outputs are logarithms
  };
  const auto seen = h.run("predict --weights @/first/model.pth " + picture + " " + picture);
  CHECK(double(seen["probabilities"][1]) == doctest::Approx(probability(.5f, .25f)).epsilon(1e-4));
  CHECK(seen["names"][0] == model.info.image.class_names[seen["classes"][0]]);
  CHECK(seen["files"][1] == picture);
  const auto other = h.run("predict --weights @/first/model.pth --mean 0.1 --std 0.5 " + picture);
  CHECK(double(other["probabilities"][0]) == doctest::Approx(probability(.1f, .5f)).epsilon(1e-4));

  pth::save(h / "plain.pth", pth::load(h / "first/model.pth"));
  const auto refused = [&](std::vector<std::string> words, int code, const std::string& why) {
    words.insert(words.begin(), {"mine", "predict", "--weights", h / "plain.pth", "--model", "naive"});
    const Answer a = call(words);
    CHECK(a.code == code);
    CHECK_MESSAGE(a.err.find(why) != std::string::npos, a.err);
  };
  refused({picture}, 2, "expected --mean and --std");
  refused({picture, "--mean", "0.5,0.5", "--std", "1"}, 2, "[--mean] expected 1 numbers");
  refused({picture, "--mean", "0.5", "--std", "0"}, 2, "[--std] expected numbers above 0");
  refused({h / "plain.pth", "--mean", "0.5", "--std", "1"}, 3, "plain.pth is neither PNG nor JPEG");
  refused({h / "nothing.png", "--mean", "0.5", "--std", "1"}, 3, "nothing.png");
  CHECK(call({"mine", "train", "picture.png"}).err.find("does not know what to do with \"picture.png\"") !=
        std::string::npos);
}

TEST_CASE("a folder of pictures trains a network that knows their names") {
  if (!has_png()) return;
  const House h;
  const std::filesystem::path pictures = ESPALIER_SOURCE_DIR "/tests/data/images";
  for (const std::string kind : {"ape", "zebra"}) {
    std::filesystem::create_directories(h / "own/" + kind);
    for (int i = 0; i < 10; ++i)
      std::filesystem::copy_file(pictures / (kind == "ape" ? "grey.png" : "rgb.png"),
                                 h / "own/" + kind + "/" + std::to_string(i) + ".png");
  }
  h.run("train --model naive --dataset folder --data @/own --epochs 1 --lr 0.02 --out @/first");
  const ModelInfo info = load_model(h / "first/model.pth").info;
  CHECK(info.classes == 2);
  CHECK(info.image.class_names == std::vector<std::string>{"ape", "zebra"});
  CHECK(h.run("evaluate --weights @/first/model.pth --dataset folder --data @/own")["test"]["examples"] == 4);
}

TEST_CASE("single zeros: model_speedup says which format runs each layer, tunes a table, and packs them") {
  const House h;
  h.run("train --model lenet --images 64 --test-images 16 --epochs 1 --lr 0.02 --out @/dense");
  h.run("model_prune --weights @/dense/model.pth --pruner level --sparsity 0.9 --finetune-epochs 0 --out @/pruned");
  const std::string speedup = "model_speedup --weights @/pruned/model.pth --batch-sizes 1,16 --repeats 1 ";
  const auto with_masks = h.run(speedup + "--masks @/pruned/mask.pth --out @/sparse");
  for (const char* batch : {"batch_1", "batch_16"}) {
    const auto& layers = with_masks["sparse"][batch]["layers"];
    REQUIRE(layers.size() == 4);
    int64_t skipped = 0;
    for (const auto& l : layers) {
      CHECK(std::abs(l["density"].get<double>() - 0.1) < 0.05);
      skipped += l["format"] != "dense";
    }
    CHECK(skipped >= 1);
  }
  CHECK(with_masks["sparse"]["packed_bytes"].get<int64_t>() * 4 <
        with_masks["table"]["shrunk"]["file_bytes"].get<int64_t>());
  // The packed file is the network, masks are not needed for what is zero in it, and a table that was tuned serves.
  h.run("evaluate --test-images 16 --weights @/sparse/packed.pth --logits @/a.pth");
  h.run("evaluate --test-images 16 --weights @/sparse/shrunk.pth --logits @/b.pth");
  CHECK(logits(h / "a.pth") == logits(h / "b.pth"));
  const auto tuned =
      h.run("model_speedup --weights @/sparse/packed.pth --batch-sizes 1 --repeats 1 --tune --out @/tuned");
  CHECK(tuned["sparse"]["batch_1"]["layers"].size() == 4);
  h.run(speedup + "--masks @/pruned/mask.pth --sparse-table @/tuned/sparse_table.json --out @/again");
  CHECK(call({"mine", "model_speedup", "--weights", h / "sparse/packed.pth", "--sparse-table", h / "sparse/packed.pth",
              "--out", h / "no"})
            .code == 3);
  CHECK(call({"mine", "model_speedup", "--weights", h / "sparse/packed.pth", "--sparse-table",
              h / "tuned/sparse_table.json", "--tune", "--out", h / "no"})
            .code == 2);
  CHECK_FALSE(std::filesystem::exists(h / "no"));
}
