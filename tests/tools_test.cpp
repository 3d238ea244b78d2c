// The tools as functions, in one process, over what only this program registered.
#include <doctest/doctest.h>
#include <espalier/compress/export/onnx.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/exact.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/storage.h>
#include <espalier/data/augment.h>
#include <espalier/data/images.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>
#include <espalier/tools/tools.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

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
      if (const size_t at = word.find('@'); at != std::string::npos) word.replace(at, 1, root.string());
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
  CHECK(help.out.find("model_speedup") != std::string::npos);
}

TEST_CASE("more images than the machine has memory for are refused, not drawn") {
  const SyntheticOptions too_many{.image = {1, 28, 28}, .count = int64_t(machine_memory() / 784 + 1)};
  CHECK_THROWS_WITH_AS(synthetic_images(Split::train, too_many), doctest::Contains("this machine's memory"), Error);
}

namespace {

const std::string few = " --test-images 32 --batch-sizes 1 --repeats 1";

void all_integers(const nlohmann::json& comparison) {
  CHECK(comparison["integers"]["in_integers"] == comparison["integers"]["layers"]);
  CHECK(comparison["exact"]["codes"] > 1000);
  CHECK(comparison["exact"]["differ"] == 0);
  CHECK(comparison["file_ratio"] <= 0.3);
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
  for (const char* file : {"model.pth", "float.pth", "raw.pth", "encodings.json", "summary.json"})
    for (const std::string out : {"ptq/", "qat/"}) CHECK(std::filesystem::exists(h / (out + file)));
  for (const std::string out : {"ptq/", "qat/"}) CHECK(std::filesystem::exists(h / (out + "model.onnx")) == has_onnx());

  // evaluate: the engine's logits, and its codes by the names of ONNX tensors.
  const auto evaluated = h.run("evaluate --weights @/ptq/model.pth --test-images 9 --logits @/l.pth --codes @/c.pth");
  CHECK(evaluated["integers"]["in_integers"] == 4);
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
  const auto classes = h.run("predict --weights @/ptq/model.pth")["classes"];
  CHECK(classes.size() == 5);
  const auto table = h.run("model_speedup --weights @/ptq/model.pth --layers --out @/table" + few);
  all_integers(table["integers"]);
  CHECK(table["layers"].size() > 4);
  // A quantized file is not quantized again.
  CHECK(call({"mine", "model_quantize", "--weights", h / "ptq/model.pth", "--out", h / "again"}).code == 2);
  CHECK_FALSE(std::filesystem::exists(h / "again"));
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
