// Writes the inputs from which fuzzing starts, a folder per target: good files, as small as they
// come.
#include <espalier/compress/config.h>
#include <espalier/compress/export/coded.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/quantize/encodings.h>
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/compress/sparse_tune.h>
#include <espalier/core/io/file.h>
#include <espalier/core/io/packed.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/io/zip.h>
#include <espalier/nn/checkpoint.h>
#include <espalier/nn/model_file.h>

#include <filesystem>
#include <iostream>

#include "small.h"

using namespace espalier;

namespace {

std::filesystem::path folder;

std::string place(const std::string& target, const std::string& name) {
  std::filesystem::create_directories(folder / target);
  return (folder / target / name).string();
}

void write_pth() {
  for (const auto& file : std::filesystem::recursive_directory_iterator(ESPALIER_SOURCE_DIR "/tests/data")) {
    if (file.path().extension() != ".pth") continue;
    const std::string name = file.path().parent_path().filename().string() + "-" + file.path().filename().string();
    const auto bytes = read_file(file.path().string(), 1 << 20);
    write_file(place("fuzz_pth", name), {bytes.data(), bytes.size()});
    if (bytes[0] != 'P') continue;  // no zip archive
    const zip::Reader archive(bytes, name);
    for (const std::string& entry : archive.names())
      if (entry.ends_with("/data.pkl")) {
        std::vector<char> inflated;
        const auto pickle = archive.read(entry, inflated);
        write_file(place("fuzz_pickle", name), {pickle.data(), pickle.size()});
      }
  }
}

void write_training() {
  fuzz::Small small;
  SGD optimizer(small, {.lr = 0.1, .momentum = 0.9});
  for (auto& [name, p] : named_parameters(small)) p->value().set_grad(Tensor::ones(p->value().shape()));
  optimizer.step();
  TrainState state;
  state.rows = {{0, 1, 0.1, 2.3, 0.1, 2.2, 0.2, 1.5}};
  save_checkpoint(place("fuzz_checkpoint", "small"), small, optimizer, state);

  Masks masks;
  for (auto& [name, p] : named_parameters(small)) masks.emplace_back(name, Tensor::ones(p->value().shape()));
  save_masks(place("fuzz_masks", "small"), masks);
}

void write_model() {
  pth::StateDict lenet;  // cut down to one channel everywhere
  const auto add = [&](const char* name, const Shape& shape) { lenet.emplace_back(name, Tensor::full(shape, 0.5f)); };
  for (const char* name : {"conv1.weight", "conv2.weight"}) add(name, {1, 1, 3, 3});
  add("fc1.weight", {1, 144});
  add("fc2.weight", {10, 1});
  for (const char* name : {"conv1.bias", "conv2.bias", "fc1.bias"}) add(name, {1});
  add("fc2.bias", {10});
  const std::string path = place("fuzz_model", "lenet");
  pth::save(path, pth::from_state_dict(lenet), model_note(model_info("lenet")));
  LoadedModel loaded = load_model(path);  // or the seed would start from a refusal

  pth::StateDict wrapped;  // as a training script keeps it
  for (const auto& [name, t] : lenet) wrapped.emplace_back("module." + name, t);
  ModelInfo told = model_info("lenet");
  told.image = {{.5f}, {.25f}, {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}};
  pth::save(place("fuzz_model", "told"), pth::from_state_dict(lenet), model_note(told));
  const std::string nested = place("fuzz_model", "nested");
  pth::save(nested, pth::Dict{{"net", pth::from_state_dict(wrapped)}, {"epoch", int64_t(3)}},
            model_note(model_info("lenet")));
  load_model(nested);

  std::vector<float> mostly_zeros(144, 0.f);
  mostly_zeros[7] = mostly_zeros[100] = 0.25f;
  for (auto& [name, t] : lenet)
    if (name == "fc1.weight") t = Tensor::from(mostly_zeros, t.shape());
  const std::string packed = place("fuzz_model", "packed");
  pth::save(packed, pth::from_state_dict(pth::pack_zeros(lenet)), model_note(model_info("lenet")));
  load_model(packed);

  PTQ_Quantizer quantizer(*loaded.module,
                          {{.op_types = {"Conv2d", "Linear"}, .quant_types = {"weight"}, .quant_bits = 8},
                           {.op_names = {"conv1"}, .quant_types = {"weight", "input"}, .quant_bits = 8},
                           {.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 8}});
  quantizer.compress();
  for (const auto& p : quantizer.placed())
    if (p.what != "weight") dynamic_cast<FakeQuant&>(*p.transform).fix(Tensor::from(std::vector<float>{-1, 2}, {2, 1}));
  const std::string quantized = place("fuzz_model", "quantized");
  save_coded(quantized, *loaded.module, model_note(model_info("lenet")));
  load_model(quantized);
}

void write_encodings() {
  fuzz::Small small;
  PTQ_Quantizer quantizer(small, fuzz::small_config());
  quantizer.compress();
  for (const auto& p : quantizer.placed())
    if (p.what != "weight") dynamic_cast<FakeQuant&>(*p.transform).fix(Tensor::from(std::vector<float>{-1, 2}, {2, 1}));
  const std::string json = quantizer.calibration();
  apply_encodings(quantizer, json);
  write_file(place("fuzz_encodings", "small"), json);
}

void write_sparse_table() {
  const SparseTable table({{true, 64, 512, 512, 4, 3, 1, {.1f, .8f}, {.05f, 1.f}}});
  save_sparse_table(place("fuzz_sparse_table", "one"), table);
  load_sparse_table(place("fuzz_sparse_table", "one"));
}

void write_config() {
  const char* lists[] = {R"([{"sparsity": 0.7, "op_types": ["BatchNorm2d"]}])",
                         R"([{"sparsity": 0.5, "op_types": ["default"]}, {"exclude": true, "op_names": ["fc2"]}])",
                         R"([{"sparsity": 0.25, "op_names": ["conv1", "conv2"], "op_types": ["Conv2d"]}])"};
  for (int i = 0; i < 3; ++i) {
    parse_config(lists[i]);
    write_file(place("fuzz_config", std::to_string(i)), lists[i]);
  }
}

void write_pictures() {
  for (const auto& file : std::filesystem::directory_iterator(ESPALIER_SOURCE_DIR "/tests/data/images")) {
    const auto bytes = read_file(file.path().string(), 1 << 20);
    const std::string target = file.path().extension() == ".png" ? "fuzz_png" : "fuzz_jpeg";
    write_file(place(target, file.path().filename().string()), {bytes.data(), bytes.size()});
  }
}

void write_images() {
  std::string records(1, '\2');  // the number of records, as the target reads it
  for (char label : {'\3', '\7'}) records += label + std::string(3072, '\x40');
  write_file(place("fuzz_cifar10", "two"), records);

  using namespace std::string_literals;
  const std::string images = "\0\0\x08\x03\0\0\0\2\0\0\0\x1c\0\0\0\x1c"s + std::string(2 * 28 * 28, '\x40'),
                    labels = "\0\0\x08\x01\0\0\0\2\3\7"s;
  write_file(place("fuzz_mnist", "two"),
             std::string{char(images.size() & 255), char(images.size() >> 8)} + images + labels);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    std::cerr << "usage: write_seeds FOLDER\n";
    return 2;
  }
  folder = arguments[1];
  write_pth();
  write_training();
  write_model();
  write_encodings();
  write_config();
  write_sparse_table();
  write_images();
  write_pictures();
}
