// Quantized models in files: codes under the weights' names, a quarter of the size, and the same codes when read back.
#include <doctest/doctest.h>
#include <espalier/compress/export/coded.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/integer_config.h>
#include <espalier/compress/quantize/quantizers.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/packed_codes.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>

#include <filesystem>
#include <map>

#include "formula.h"
#include "refusal.h"

using namespace espalier;

namespace {

const std::string path = (std::filesystem::temp_directory_path() / "espalier_coded_test.pth").string();

struct Remove {
  ~Remove() { std::filesystem::remove(path); }
} remove_at_end;

Tensor images(const std::string& name, int64_t n = 3) { return formula::batch(model_info(name).input, n, 5).images; }

std::unique_ptr<Quantizer> quantize(Module& model, const std::string& name, IntegerConfigOptions options = {},
                                    const std::string& quantizer = "qat") {
  const Tensor x = images(name);
  auto q = make_quantizer(quantizer, model, integer_config(model, x.narrow(0, 1), options).list);
  q->compress();
  model.train();
  const NoGrad no_grad;
  model(x);
  model.eval();
  return q;
}

std::vector<std::vector<uint8_t>> codes(Module& model, const Tensor& x) {
  std::vector<std::vector<uint8_t>> all;
  for (const auto& [name, t] : Engine(trace(model, x)).codes({x})) all.push_back(t.to_vector<uint8_t>());
  return all;
}

// A layer that is neither first nor last, whose weights have the bits that were asked for.
std::string packed_of(const std::string& model) {
  return model == "resnet20" ? "layer1.0.conv1.weight" : "conv2.weight";
}

const pth::Value& entry(const pth::Value& v, const char* a, const std::string& b) {
  const pth::Value* found = v.find(a)->find(b);
  REQUIRE(found != nullptr);
  return *found;
}

}  // namespace

TEST_CASE("a quantized file holds codes and gives the same codes") {
  struct Case {
    std::string model;
    IntegerConfigOptions options;
  };
  for (const Case& one :
       {Case{"naive", {}}, Case{"lenet", {.weight_bits = 4}}, Case{"resnet20", {.activation_bits = 6}},
        Case{"naive", {.quant_scheme = "per_tensor_affine"}},
        Case{"naive", {.weight_bits = 2, .quant_scheme = "per_tensor_symmetric"}}, Case{"naive", {.weight_bits = 3}},
        Case{"naive", {.weight_bits = 6, .quant_scheme = "per_tensor_affine"}}}) {
    CAPTURE(one.model);
    manual_seed(11);
    const auto model = make_model(one.model);
    const auto q = quantize(*model, one.model, one.options);
    save_coded(path, *model, model_note(model_info(one.model)));
    const pth::Value file = pth::load(path);
    const bool is_signed = one.options.quant_scheme != "per_tensor_affine";
    for (const auto& [name, v] : std::get<pth::Dict>(*file.find("model"))) {
      const auto& t = std::get<Tensor>(v);
      if (t.rank() >= 2) CHECK(t.dtype() == (is_signed ? DType::s8 : DType::u8));
      if (name == packed_of(one.model) && one.options.weight_bits < 8) {
        int64_t elements = 0;
        for (auto& [own, p] : named_parameters(*model))
          if (own == name) elements = p->value().numel();
        CHECK(t.dtype() == DType::u8);
        CHECK(t.shape() == Shape{(elements * one.options.weight_bits + 7) / 8});
      }
    }
    const Tensor x = images(one.model);
    const LoadedModel loaded = load_model(path);
    CHECK(codes(*loaded.module, x) == codes(*model, x));
    CHECK((*loaded.module)(x).to_vector() == (*model)(x).to_vector());
    // Once more: what was read is written alike.
    save_coded(path, *loaded.module, model_note(model_info(one.model)));
    CHECK(codes(*load_model(path).module, x) == codes(*model, x));
  }
}

TEST_CASE("other quantizers' files, too") {
  for (const std::string name : {"naive", "dorefa", "bnn"}) {
    CAPTURE(name);
    manual_seed(11);
    const auto model = make_model("naive");
    const auto q =
        make_quantizer(name, *model, {{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = 8}});
    q->compress();
    model->eval();
    save_coded(path, *model, model_note(model_info("naive")));
    const Tensor x = images("naive");
    const LoadedModel loaded = load_model(path);
    CHECK((*loaded.module)(x).to_vector() == (*model)(x).to_vector());
    const auto dtype = std::get<Tensor>(entry(pth::load(path), "model", "fc1.weight")).dtype();
    CHECK(dtype == (name == "dorefa" ? DType::f32 : name == "bnn" ? DType::u8 : DType::s8));
  }
}

TEST_CASE("DoReFa's weights lie in files as codes 2q - n of a bit more") {
  for (const int64_t bits : {1, 2, 4, 7}) {
    CAPTURE(bits);
    manual_seed(11);
    const auto model = make_model("naive");
    const auto q =
        make_quantizer("dorefa", *model, {{.op_types = {"default"}, .quant_types = {"weight"}, .quant_bits = bits}});
    q->compress();
    model->eval();
    save_coded(path, *model, model_note(model_info("naive")));
    const LoadedModel loaded = load_model(path);
    const NoGrad no_grad;
    for (size_t i = 0; i < q->placed().size(); ++i) {
      const std::string name = q->placed()[i].layer + ".weight";
      Parameter *mine = nullptr, *theirs = nullptr;
      for (auto& [n, p] : named_parameters(*model)) mine = n == name ? p : mine;
      for (auto& [n, p] : named_parameters(*loaded.module)) theirs = n == name ? p : theirs;
      const auto a = (*mine)().to_vector(), b = (*theirs)().to_vector();
      for (size_t k = 0; k < a.size(); ++k) CHECK(b[k] == doctest::Approx(a[k]).epsilon(1e-6));
      const Tensor packed = std::get<Tensor>(entry(pth::load(path), "model", name.c_str()));
      const int64_t numel = mine->value().numel();
      CHECK(packed.numel() == (bits == 7 ? numel : (numel * (bits + 1) + 7) / 8));
    }
    const Tensor x = images("naive");
    const auto a = (*model)(x).to_vector(), b = (*loaded.module)(x).to_vector();
    for (size_t k = 0; k < a.size(); ++k) CHECK(b[k] == doctest::Approx(a[k]).epsilon(1e-4));
    save_coded(path, *loaded.module, model_note(model_info("naive")));  // what was read is written alike
    CHECK((*load_model(path).module)(x).to_vector() == b);
  }
}

TEST_CASE("a fixed quantizer looks no more; training goes on with its ranges") {
  manual_seed(11);
  const auto model = make_model("naive");
  const auto q = quantize(*model, "naive");
  save_coded(path, *model, model_note(model_info("naive")));
  const LoadedModel loaded = load_model(path);
  std::map<std::string, std::vector<float>> before;
  for (const auto& [name, t] : port_tensors(*loaded.module)) before[name] = t.to(DType::f32).to_vector();
  CHECK(before.count("relu1.output_scale") == 1);
  CHECK(before.count("relu1.output_range") == 0);
  loaded.module->train();
  const NoGrad no_grad;
  (*loaded.module)(images("naive") * Tensor::full({1}, 100));
  loaded.module->eval();
  for (const auto& [name, t] : port_tensors(*loaded.module)) CHECK(t.to(DType::f32).to_vector() == before[name]);
}

TEST_CASE("int8 files are a quarter of the floats'") {
  for (const std::string name : {"vgg11", "resnet18"}) {
    CAPTURE(name);
    manual_seed(11);
    const auto model = make_model(name);
    save_model(path, *model, name);
    const double real = double(std::filesystem::file_size(path));
    const auto q =
        make_quantizer("ptq", *model, {{.op_types = {"Conv2d", "Linear"}, .quant_types = {"weight"}, .quant_bits = 8}});
    q->compress();
    save_coded(path, *model, model_note(model_info(name)));
    CHECK(double(std::filesystem::file_size(path)) <= 0.26 * real);
  }
}

TEST_CASE("masks go into the codes: what they hide is 0") {
  manual_seed(11);
  const auto model = make_model("naive");
  const auto parameters = named_parameters(*model);
  for (auto& [name, p] : parameters)
    if (name == "conv2.weight" || name == "bn1.bias") {
      std::vector<float> mask(size_t(p->value().numel()), 1.f);
      for (size_t i = 0; i < mask.size(); i += 3) mask[i] = 0;
      set_mask(*p, Tensor::from(mask, p->value().shape()));
    }
  for (auto& [name, p] : parameters)
    if (name == "bn1.bias") p->value().copy_from(Tensor::full({20}, 0.5f));
  const auto q = quantize(*model, "naive");
  save_coded(path, *model, model_note(model_info("naive")));
  const auto c = std::get<Tensor>(entry(pth::load(path), "model", "conv2.weight")).to_vector<int8_t>();
  int others = 0;
  for (size_t i = 0; i < c.size(); ++i)
    if (i % 3 == 0)
      CHECK(c[i] == 0);
    else
      others += c[i] != 0;
  CHECK(others > 0);
  const LoadedModel loaded = load_model(path);
  CHECK(masks_of(*loaded.module).empty());
  const Tensor x = images("naive");
  CHECK(codes(*loaded.module, x) == codes(*model, x));
}

TEST_CASE("damaged files of codes are refused by name") {
  manual_seed(11);
  const auto model = make_model("naive");
  const auto q = quantize(*model, "naive");
  const std::string note = model_note(model_info("naive"));
  const pth::Value good = coded_value(*model);
  const auto refused = [&](const std::string& where, const std::string& name, const pth::Value& instead) {
    pth::Dict file;
    for (const auto& [part, dict] : std::get<pth::Dict>(good)) {
      pth::Dict entries;
      for (const auto& [key, v] : std::get<pth::Dict>(dict)) {
        if (part != where || key != name)
          entries.emplace_back(key, v);
        else if (!std::holds_alternative<std::monostate>(instead))
          entries.emplace_back(key, instead);
      }
      file.emplace_back(part, entries);
    }
    pth::save(path, file, note);
    return refusal([&] { load_model(path); });
  };
  CHECK(refused("model", "fc2.weight", Tensor::full({10, 500}, -128, DType::s8)).find("-128, expected -127 to 127") !=
        std::string::npos);
  CHECK(refused("ports", "fc2.weight_quant", {}).find("fc2.weight_scale: ") != std::string::npos);
  CHECK(refused("ports", "fc2.weight_scale", Tensor::zeros({10})).find("holds 0") != std::string::npos);
  CHECK(refused("ports", "fc2.weight_scale", Tensor::ones({9})).find("expected f32[10]") != std::string::npos);
  pth::save(path, *good.find("model"), note);
  CHECK(refusal([&] { load_model(path); }).find("holds codes, and nothing says what they are worth") !=
        std::string::npos);
  // A network that was never shown an image has nothing to write.
  manual_seed(11);
  const auto fresh = make_model("naive");
  QAT_Quantizer unseen(*fresh, {{.op_types = {"ReLU"}, .quant_types = {"output"}, .quant_bits = 8}});
  unseen.compress();
  CHECK(refusal([&] { coded_value(*fresh); }, ErrorKind::usage).find("relu1.output has seen nothing") !=
        std::string::npos);
}

TEST_CASE("quantizers can be found and taken away") {
  manual_seed(11);
  const auto model = make_model("naive");
  CHECK_FALSE(is_quantized(*model));
  const auto before = model->eval()(images("naive")).to_vector();
  model->train();
  const auto q = quantize(*model, "naive");
  const auto state = state_dict(*model);
  CHECK(is_quantized(*model));
  remove_quantizers(*model);
  CHECK_FALSE(is_quantized(*model));
  CHECK(port_tensors(*model).empty());
}

TEST_CASE("codes of fewer bits lie packed and come back") {
  for (int bits = 1; bits <= 7; ++bits)
    for (const bool is_signed : {true, false}) {
      CAPTURE(bits);
      CAPTURE(is_signed);
      std::vector<int8_t> s;
      std::vector<uint8_t> u;
      for (int i = 0; i < 45; ++i) {
        const int range = 1 << bits, v = (i * 37 + 11) % range;
        u.push_back(uint8_t(v));
        s.push_back(int8_t(bits == 1 ? 1 - 2 * v : v - range / 2));
      }
      const Tensor codes = is_signed ? Tensor::from(s, {5, 3, 3}) : Tensor::from(u, {5, 3, 3});
      const Tensor packed = pack_codes(codes, bits), packing = packing_of(codes, bits);
      CHECK(packed.shape() == Shape{(45 * bits + 7) / 8});
      const Tensor back = unpack_codes(packed, packing);
      REQUIRE(back.dtype() == codes.dtype());
      CHECK(back.shape() == codes.shape());
      if (is_signed)
        CHECK(back.to_vector<int8_t>() == s);
      else
        CHECK(back.to_vector<uint8_t>() == u);
    }
  // Two codes of 4 bits: the first in the lower half.
  CHECK(pack_codes(Tensor::from(std::vector<int8_t>{-7, 3}, {2}), 4).to_vector<uint8_t>() ==
        std::vector<uint8_t>{0x39});
  const Tensor packed = Tensor::from(std::vector<uint8_t>{1, 2}, {2});
  const auto refused = [&](std::vector<int64_t> words) {
    const auto n = int64_t(words.size());
    return refusal([&] { unpack_codes(packed, Tensor::from(words, {n})); });
  };
  CHECK(refused({8, 1, 2}).find("[bits] 8") != std::string::npos);
  CHECK(refused({4, 2, 4}).find("signed is 2") != std::string::npos);
  CHECK(refused({4, 1, 5}).find("expected u8[3]") != std::string::npos);
  CHECK(refused({4, 1, -4}).find("a size of -4") != std::string::npos);
  CHECK(refused({4, 1, int64_t(1) << 40, int64_t(1) << 40}).find("a size of") != std::string::npos);
  CHECK(refused({4}).find("expected s64[2 + rank]") != std::string::npos);
  CHECK(refusal([&] {
          unpack_codes(Tensor::ones({2}), Tensor::from(std::vector<int64_t>{4, 1, 4}, {3}));
        }).find("f32") != std::string::npos);
}
