// A user's own network, own operation and own images under all of the tools: a small residual network for squares and
// crosses. tests/consumer/run builds it and lets it train, prune, export, shrink, evaluate and predict.
#include <espalier/compress/export/onnx_rule.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/tape.h>
#include <espalier/data/images.h>
#include <espalier/nn/models.h>
#include <espalier/tools/tools.h>

using namespace espalier;

struct Square : Op {  // x*x
  std::string_view name() const override { return "square"; }
  Shape infer(std::span<const Shape> in) const override { return in[0]; }
  void run(Inputs in, Tensor& out, Saved& saved) const override {
    const float* x = in[0].data();
    for (float* y = out.mutable_data(); y != out.data() + out.numel(); ++x, ++y) *y = *x * *x;
    saved.tensors = {in[0]};
  }
  Tensors backward(const Saved& s, const Tensor& dy, const Needs&) const override {
    const Tensor half = dy * s.tensors[0];
    return {half + half};
  }
  Dims couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const override {
    return in[0];
  }
  bool zero(std::span<const Slice> in) const override { return all_are_zero(in); }
};

struct Small : Module {  // [N,1,16,16] -> [N,classes]
  explicit Small(int64_t classes) : fc(16, classes) {}
  std::string_view type() const override { return "Small"; }
  void members(Members& m) override { m("stem", stem), m("bn", bn), m("a", a), m("bn_a", bn_a), m("fc", fc); }
  Tensor forward(const Tensor& x) override {
    const Tensor y = norm_relu(bn, stem(x));
    const Tensor z = apply(Square{}, {y + bn_a(a(y))});
    return fc(flatten(adaptive_avg_pool2d(z, 1)));
  }
  Conv2d stem{1, 16, {.kernel = 3, .padding = 1, .bias = false}}, a{16, 16, {.kernel = 3, .padding = 1, .bias = false}};
  BatchNorm2d bn{16}, bn_a{16};
  Linear fc;
};

ImageSet shapes(const std::string&, Split split) {
  const int64_t n = split == Split::train ? 256 : 64;
  ImageSet set{"shapes", Tensor::zeros({n, 1, 16, 16}, DType::u8), Tensor::zeros({n}, DType::s64), {{.5f}, {.25f}}};
  for (int64_t i = 0; i < n; ++i)
    for (int64_t k = 2, label = set.labels.mutable_data<int64_t>()[i] = i % 2; k < 14; ++k)
      for (int64_t at : label ? std::vector{17 * k, 15 * k + 15} : std::vector{16 * 2 + k, 16 * 13 + k})
        set.images.mutable_data<uint8_t>()[256 * i + at] = uint8_t(128 + i % 128);
  return set;
}

int main(int argc, char** argv) {
  register_model({.name = "small", .input = {1, 16, 16}, .classes = 2},
                 [](ModelOptions o) { return std::make_unique<Small>(o.classes); });
  register_dataset("shapes", shapes);
  register_onnx_rule("square", [](OnnxStep& s) { s.emit("Mul", {s.in[0], s.in[0]}); });
  return tool::main(argc, argv);
}
