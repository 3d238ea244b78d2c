// The table of operation cases: values and gradients of every op against its meaning, on every column present.
// Sizes are odd on purpose: 1, 3, 17, 37 channels, images of one pixel, unequal axes.
#include "op_case.h"

using namespace espalier;
using R = reference::Array;

namespace {

std::string text(std::initializer_list<Shape> shapes) {
  std::ostringstream out;
  for (const Shape& s : shapes) out << ' ' << s;
  return out.str();
}

OpCase conv(Shape x, Shape w, bool bias, Window window = {}, int64_t groups = 1) {
  OpCase c{.name = "conv2d" + text({x, w}) + (bias ? " bias" : ""),
           .shapes = {x, w},
           .ours = {},
           .meaning = {},
           .sums = true};
  if (bias) c.shapes.push_back({w[0]});
  c.ours = [=](std::vector<Tensor>& t) { return conv2d(t[0], t[1], bias ? t[2] : Tensor{}, window, groups); };
  c.meaning = [=](const Arrays& a) {
    return reference::conv2d(a[0], a[1], bias ? &a[2] : nullptr, window.stride, window.padding, window.dilation);
  };
  return c;
}

OpCase affine(int64_t n, int64_t in, int64_t out, bool bias) {
  OpCase c{.name = "linear" + text({{n, in}, {out, in}}),
           .shapes = {{n, in}, {out, in}},
           .ours = {},
           .meaning = {},
           .sums = true};
  if (bias) c.shapes.push_back({out});
  c.ours = [=](std::vector<Tensor>& t) { return linear(t[0], t[1], bias ? t[2] : Tensor{}); };
  c.meaning = [=](const Arrays& a) { return reference::linear(a[0], a[1], bias ? &a[2] : nullptr); };
  return c;
}

OpCase product(Shape a, Shape b, bool ta, bool tb) {
  return {.name = "matmul" + text({a, b}) + (ta ? " ta" : "") + (tb ? " tb" : ""),
          .shapes = {a, b},
          .ours = [=](std::vector<Tensor>& t) { return matmul(t[0], t[1], ta, tb); },
          .meaning = [=](const Arrays& m) { return reference::matmul(m[0], m[1], ta, tb); },
          .sums = true};
}

OpCase norm(Shape x, bool training, bool relu) {
  const Shape c{x[1]};
  return {
      .name = "batch_norm" + text({x}) + (training ? " training" : " eval") + (relu ? " relu" : ""),
      .shapes = {x, c, c, c, c},
      .ours =
          [=](std::vector<Tensor>& t) {
            return batch_norm(t[0], t[1], t[2], t[3], t[4], {.training = training, .relu = relu});
          },
      .meaning =
          [=](const Arrays& a) { return reference::batch_norm(a[0], a[1], a[2], a[3], a[4], training, 1e-5, relu); },
      .c = 64,
      .low = 0.25,
      .high = 2,
      .grads = {true, true, true, false, false}};
}

OpCase max_pooled(Shape x, PoolOptions o) {
  const Pair stride = o.stride == Pair(0) ? o.kernel : o.stride;
  return {
      .name = "max_pool2d" + text({x}),
      .shapes = {x},
      .ours = [=](std::vector<Tensor>& t) { return max_pool2d(t[0], o); },
      .meaning = [=](const Arrays& a) { return reference::window_pool(a[0], true, o.kernel, stride, o.padding, true); },
      .c = 1,
      .distinct = true};
}

OpCase avg_pooled(Shape x, PoolOptions o) {
  const Pair stride = o.stride == Pair(0) ? o.kernel : o.stride;
  return {.name = "avg_pool2d" + text({x}),
          .shapes = {x},
          .ours = [=](std::vector<Tensor>& t) { return avg_pool2d(t[0], o); },
          .meaning =
              [=](const Arrays& a) {
                return reference::window_pool(a[0], false, o.kernel, stride, o.padding, o.count_include_pad);
              },
          .sums = true};
}

OpCase adaptive(Shape x, Pair out) {
  return {.name = "adaptive_avg_pool2d" + text({x}),
          .shapes = {x},
          .ours = [=](std::vector<Tensor>& t) { return adaptive_avg_pool2d(t[0], out); },
          .meaning = [=](const Arrays& a) { return reference::adaptive_avg_pool2d(a[0], out); },
          .sums = true};
}

template <class F>
OpCase function(const std::string& name, F ours, std::function<double(double)> meaning, double kink = NAN,
                double low = -8, double high = 8) {
  return {.name = name,
          .shapes = {{3, 17, 2, 5}},
          .ours = [=](std::vector<Tensor>& t) { return ours(t[0]); },
          .meaning = [=](const Arrays& a) { return reference::unary(a[0], meaning); },
          .low = low,
          .high = high,
          .away_from = kink,
          .by = 1e-3};
}

OpCase pairwise(const std::string& name, Shape a, Shape b, Tensor (*ours)(const Tensor&, const Tensor&),
                std::function<double(double, double)> f) {
  OpCase c{.name = name + text({a, b}),
           .shapes = {a, b},
           .ours = [=](std::vector<Tensor>& t) { return ours(t[0], t[1]); },
           .meaning = [=](const Arrays& m) { return reference::binary(m[0], m[1], f); }};
  if (name == "add" || name == "mul") c.sums = true;
  if (name == "sub")
    c.terms = [](const Arrays& m) { return reference::binary(m[0], m[1], [](double x, double y) { return x + y; }); };
  if (name == "div") c.low = 0.5, c.high = 2;
  return c;
}

OpCase reduced(Shape x, std::vector<int> dims, bool keepdim, bool is_mean) {
  return {
      .name = std::string(is_mean ? "mean" : "sum") + text({x}) + (keepdim ? " keepdim" : ""),
      .shapes = {x},
      .ours = [=](std::vector<Tensor>& t) { return is_mean ? mean(t[0], dims, keepdim) : sum(t[0], dims, keepdim); },
      .meaning = [=](const Arrays& a) { return reference::sum(a[0], dims, keepdim, is_mean); },
      .sums = true,
      .c = 4};
}

OpCase most(Shape x, std::vector<int> dims, bool keepdim, bool largest) {
  return {
      .name = std::string(largest ? "amax" : "amin") + text({x}) + (keepdim ? " keepdim" : ""),
      .shapes = {x},
      .ours = [=](std::vector<Tensor>& t) { return largest ? amax(t[0], dims, keepdim) : amin(t[0], dims, keepdim); },
      .meaning = [=](const Arrays& a) { return reference::most(a[0], dims, keepdim, largest); },
      .c = 1,
      .distinct = true};
}

OpCase place_of_most(Shape x, int dim, bool keepdim, bool largest) {
  return {
      .name = std::string(largest ? "argmax" : "argmin") + text({x}) + std::to_string(dim),
      .shapes = {x},
      .ours = [=](std::vector<Tensor>& t) { return largest ? argmax(t[0], dim, keepdim) : argmin(t[0], dim, keepdim); },
      .meaning = [=](const Arrays& a) { return reference::place_of_most(a[0], dim, keepdim, largest); },
      .distinct = true};
}

OpCase softened(Shape x, int dim, bool log) {
  return {.name = (log ? "log_softmax" : "softmax") + text({x}),
          .shapes = {x},
          .ours = [=](std::vector<Tensor>& t) { return log ? log_softmax(t[0], dim) : softmax(t[0], dim); },
          .meaning = [=](const Arrays& a) { return reference::softmax(a[0], dim, log); },
          .low = -6,
          .high = 6};
}

template <class F>
OpCase moved(const std::string& name, std::vector<Shape> shapes, F ours, std::function<R(const Arrays&)> meaning) {
  return {.name = name, .shapes = std::move(shapes), .ours = ours, .meaning = std::move(meaning), .sums = true, .c = 1};
}

std::vector<int64_t> labels(int64_t n, int64_t classes) {
  std::vector<int64_t> t;
  for (int64_t i = 0; i < n; ++i) t.push_back((i * 7 + 1) % classes);
  return t;
}

OpCase likelihood(int64_t n, int64_t classes, float smoothing, bool from_logits) {
  const auto target = labels(n, classes);
  return {.name = (from_logits ? "cross_entropy" : "nll_loss") + text({{n, classes}}),
          .shapes = {{n, classes}},
          .ours =
              [=](std::vector<Tensor>& t) {
                const Tensor index = Tensor::from(target, {n}).to(t[0].device());
                return from_logits ? cross_entropy(t[0], index, smoothing) : nll_loss(t[0], index, smoothing);
              },
          .meaning =
              [=](const Arrays& a) {
                return reference::nll_loss(from_logits ? reference::softmax(a[0], 1, true) : a[0], target, smoothing);
              },
          .low = -4,
          .high = 4};
}

}  // namespace

TEST_CASE("convolution") {
  std::vector<OpCase> table;
  for (int64_t c : {1, 3, 17, 37}) {
    table.push_back(conv({2, c, 5, 4}, {c == 37 ? 3 : 5, c, 3, 3}, c % 2, {.padding = 1}));
    table.push_back(conv({3, 3, 4, 3}, {c, 3, 1, 1}, true));
  }
  table.push_back(conv({1, 17, 1, 1}, {3, 17, 3, 3}, true, {.padding = 1}));  // an image of one pixel
  table.push_back(conv({2, 3, 1, 1}, {37, 3, 1, 1}, false));
  table.push_back(conv({2, 3, 9, 7}, {4, 3, 3, 3}, true, {.stride = 2, .padding = 1}));
  table.push_back(conv({2, 3, 9, 8}, {4, 3, 3, 2}, true, {.stride = {2, 3}, .padding = {1, 0}}));
  table.push_back(conv({1, 3, 9, 11}, {2, 3, 3, 3}, false, {.padding = {2, 3}, .dilation = {2, 3}}));
  table.push_back(conv({1, 2, 11, 9}, {3, 2, 5, 3}, true, {.stride = {3, 2}, .padding = {2, 1}, .dilation = {1, 2}}));
  table.push_back(conv({2, 4, 8, 8}, {4, 4, 1, 1}, false, {.stride = 2}));  // a projection shortcut
  table.push_back(conv({2, 6, 5, 4}, {9, 2, 3, 3}, true, {.padding = 1}, 3));
  table.push_back(conv({1, 34, 3, 4}, {34, 17, 3, 3}, false, {.stride = 2, .padding = 1}, 2));
  table.push_back(conv({2, 17, 5, 6}, {17, 1, 3, 3}, true, {.padding = 1}, 17));  // depthwise
  table.push_back(conv({2, 16, 6, 5}, {16, 1, 3, 3}, false, {.stride = {2, 1}, .padding = 1}, 16));
  table.push_back(conv({2, 5, 4, 4}, {10, 1, 3, 3}, true, {.padding = 1}, 5));  // two filters per channel
  table.push_back(conv({2, 1, 8, 8}, {6, 1, 5, 5}, true));                      // one real input channel
  run_cases(table);
}

TEST_CASE("linear layers and matrix products") {
  std::vector<OpCase> table{affine(1, 1, 1, true), affine(3, 17, 37, true), affine(5, 37, 3, false),
                            affine(64, 3, 10, true)};
  for (bool ta : {false, true})
    for (bool tb : {false, true}) {
      const Shape a = ta ? Shape{17, 3} : Shape{3, 17}, b = tb ? Shape{5, 17} : Shape{17, 5};
      table.push_back(product(a, b, ta, tb));
      table.push_back(product(ta ? Shape{2, 3, 7} : Shape{2, 7, 3}, tb ? Shape{2, 9, 3} : Shape{2, 3, 9}, ta, tb));
    }
  run_cases(table);
}

TEST_CASE("batch norm") {
  std::vector<OpCase> table;
  for (bool training : {true, false})
    for (bool relu : {false, true})
      for (const Shape& x : {Shape{4, 1, 3, 5}, {3, 17, 2, 3}, {2, 37, 1, 2}, {5, 3, 1, 1}, {8, 17}, {3, 1}})
        table.push_back(norm(x, training, relu));
  run_cases(table);
}

TEST_CASE("pooling") {
  run_cases(
      {max_pooled({2, 3, 6, 8}, {.kernel = 2}), max_pooled({1, 17, 7, 5}, {.kernel = 3, .stride = 2, .padding = 1}),
       max_pooled({2, 37, 4, 4}, {.kernel = {2, 3}, .stride = {2, 1}, .padding = {0, 1}}),
       max_pooled({3, 1, 1, 1}, {.kernel = 1}),
       max_pooled({1, 3, 7, 9}, {.kernel = 3, .stride = {4, 5}}),  // windows with gaps
       avg_pooled({1, 3, 7, 9}, {.kernel = 3, .stride = {4, 5}}), avg_pooled({1, 70, 5, 5}, {.kernel = 3, .stride = 1}),
       avg_pooled({2, 3, 6, 8}, {.kernel = 2}), avg_pooled({1, 17, 7, 5}, {.kernel = 3, .stride = 2, .padding = 1}),
       avg_pooled({1, 17, 7, 5}, {.kernel = 3, .stride = 2, .padding = 1, .count_include_pad = false}),
       avg_pooled({2, 37, 4, 5}, {.kernel = {2, 3}, .stride = {2, 1}, .padding = {1, 0}}), adaptive({2, 17, 4, 4}, 1),
       adaptive({2, 3, 7, 5}, {3, 2}), adaptive({1, 37, 2, 3}, {4, 5}), adaptive({3, 1, 1, 1}, 1)});
}

TEST_CASE("functions of one operand") {
  const auto sigmoid_of = [](double x) { return 1 / (1 + std::exp(-x)); };
  std::vector<OpCase> table{
      function(
          "relu", [](const Tensor& x) { return relu(x); }, [](double x) { return std::max(x, 0.0); }, 0),
      function(
          "relu6", [](const Tensor& x) { return relu6(x); }, [](double x) { return std::clamp(x, 0.0, 6.0); }, 0),
      function(
          "leaky_relu", [](const Tensor& x) { return leaky_relu(x, {.negative_slope = 0.25f}); },
          [](double x) { return x > 0 ? x : 0.25 * x; }, 0),
      function(
          "hardtanh", [](const Tensor& x) { return hardtanh(x, {.min_val = -2, .max_val = 3}); },
          [](double x) { return std::clamp(x, -2.0, 3.0); }),
      function(
          "tanh", [](const Tensor& x) { return tanh(x); }, [](double x) { return std::tanh(x); }),
      function(
          "sigmoid", [](const Tensor& x) { return sigmoid(x); }, sigmoid_of),
      function(
          "silu", [](const Tensor& x) { return silu(x); }, [=](double x) { return x * sigmoid_of(x); }),
      function(
          "hardswish", [](const Tensor& x) { return hardswish(x); },
          [](double x) { return x * std::clamp(x + 3, 0.0, 6.0) / 6; }),
      function(
          "gelu", [](const Tensor& x) { return gelu(x); },
          [](double x) { return x * 0.5 * std::erfc(-x / std::sqrt(2.0)); }),
      function(
          "sign", [](const Tensor& x) { return sign(x); }, [](double x) { return double((x > 0) - (x < 0)); }, 0),
      function(
          "neg", [](const Tensor& x) { return -x; }, [](double x) { return -x; }),
      function(
          "abs", [](const Tensor& x) { return abs(x); }, [](double x) { return std::abs(x); }, 0),
      function(
          "exp", [](const Tensor& x) { return exp(x); }, [](double x) { return std::exp(x); }, NAN, -3, 3),
      function(
          "log", [](const Tensor& x) { return log(x); }, [](double x) { return std::log(x); }, NAN, 0.25, 8),
      function(
          "sqrt", [](const Tensor& x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }, NAN, 0.25, 8),
      function(
          "pow", [](const Tensor& x) { return pow(x, 2.5); }, [](double x) { return std::pow(x, 2.5); }, NAN, 0.25, 3),
      function(
          "clamp", [](const Tensor& x) { return clamp(x, -2, 3); }, [](double x) { return std::clamp(x, -2.0, 3.0); }),
      function(
          "clamp from above", [](const Tensor& x) { return clamp(x, {.max = 1}); },
          [](double x) { return std::min(x, 1.0); }, 1),
      function(
          "smooth_l1", [](const Tensor& x) { return smooth_l1(x, {.beta = 2}); },
          [](double x) { return std::abs(x) < 2 ? x * x / 4 : std::abs(x) - 1; }),
  };
  for (const double e : {-2., -1., -.5, 0., .5, 1., 2., 3., 4.})
    table.push_back(function(
        "pow " + std::to_string(e), [e](const Tensor& x) { return pow(x, e); },
        [e](double x) { return std::pow(x, e); }, NAN, 0.5, 3));
  // Numbers on either side.
  table.push_back(function(
      "2·(1 - (3 + x - 0.5)/4)·x", [](const Tensor& x) { return 2 * (1 - (3 + x - 0.5) / 4) * x; },
      [](double x) { return 2 * (1 - (3 + x - 0.5) / 4) * x; }));
  table.push_back(function(
      "1/x", [](const Tensor& x) { return 1 / x; }, [](double x) { return 1 / x; }, NAN, 0.5, 3));
  run_cases(table);
  for (const char* name : {
#define X(name, ...) #name,
           ESPALIER_UNARY(X)
#undef X
       })
    CHECK_MESSAGE(std::count_if(table.begin(), table.end(), [&](const OpCase& c) { return c.name == name; }) == 1,
                  name << " has no case");
}

TEST_CASE("functions of two operands, broadcast") {
  std::vector<OpCase> table;
  const std::vector<std::pair<Shape, Shape>> shapes{{{2, 17, 3, 5}, {2, 17, 3, 5}},
                                                    {{2, 17, 3, 5}, {1, 17, 1, 1}},
                                                    {{2, 17, 3, 5}, {17, 1, 1}},
                                                    {{2, 3, 4, 5}, {2, 3, 1, 1}},
                                                    {{2, 3, 4, 5}, {2, 1, 4, 5}},
                                                    {{2, 3, 4, 5}, {5}},
                                                    {{2, 3, 4, 5}, {}},
                                                    {{1, 37, 1, 1}, {3, 1, 2, 2}},
                                                    {{3, 17}, {17}},
                                                    {{3, 17}, {3, 1}},
                                                    {{4, 3, 3, 3}, {4, 1, 1, 1}},
                                                    {{2, 1, 3}, {4, 1}},
                                                    {{1, 1, 1, 1}, {1, 1, 1, 1}},
                                                    {{}, {}}};
  for (const auto& [a, b] : shapes) {
    table.push_back(pairwise("add", a, b, add, [](double x, double y) { return x + y; }));
    table.push_back(pairwise("sub", a, b, sub, [](double x, double y) { return x - y; }));
    table.push_back(pairwise("mul", b, a, mul, [](double x, double y) { return x * y; }));
    table.push_back(pairwise("div", b, a, div, [](double x, double y) { return x / y; }));
    table.push_back(pairwise("maximum", a, b, maximum, [](double x, double y) { return std::max(x, y); }));
    table.push_back(pairwise("minimum", b, a, minimum, [](double x, double y) { return std::min(x, y); }));
    table.push_back(pairwise("gt", a, b, gt, [](double x, double y) { return double(x > y); }));
    table.push_back(pairwise("ge", b, a, ge, [](double x, double y) { return double(x >= y); }));
    table.push_back(pairwise("lt", a, b, lt, [](double x, double y) { return double(x < y); }));
    table.push_back(pairwise("le", b, a, le, [](double x, double y) { return double(x <= y); }));
    table.push_back(pairwise("eq", a, b, eq, [](double x, double y) { return double(x == y); }));
    table.push_back(pairwise("ne", b, a, ne, [](double x, double y) { return double(x != y); }));
    table.push_back(pairwise("prelu_term", a, b, prelu_term, [](double x, double y) { return x > 0 ? x : x * y; }));
  }
  run_cases(table);
}

TEST_CASE("transposed convolution") {
  std::vector<OpCase> table;
  const auto add = [&](Shape x, Shape w, bool bias, ConvTransposeOptions o) {
    OpCase c{.name = "conv_transpose2d" + text({x, w}), .shapes = {x, w}, .ours = {}, .meaning = {}, .sums = true};
    if (bias) c.shapes.push_back({w[1] * o.groups});
    c.ours = [=](std::vector<Tensor>& t) { return conv_transpose2d(t[0], t[1], bias ? t[2] : Tensor{}, o); };
    c.meaning = [=](const Arrays& a) {
      return reference::conv_transpose2d(a[0], a[1], bias ? &a[2] : nullptr, o.window.stride, o.window.padding,
                                         o.window.dilation, o.output_padding, o.groups);
    };
    table.push_back(c);
  };
  add({2, 3, 4, 5}, {3, 17, 2, 2}, true, {.window = {.stride = 2}});
  add({1, 17, 3, 2}, {17, 3, 3, 3}, false, {.window = {.stride = 2, .padding = 1}, .output_padding = 1});
  add({2, 1, 1, 1}, {1, 5, 4, 3}, true, {});
  add({1, 5, 3, 4}, {5, 2, 3, 2}, true,
      {.window = {.stride = {3, 2}, .padding = {1, 0}, .dilation = {1, 2}}, .output_padding = {2, 0}});
  add({2, 6, 3, 4}, {6, 2, 3, 3}, true, {.window = {.stride = 2, .padding = 1}, .groups = 3});
  add({1, 17, 3, 4}, {17, 1, 3, 3}, false, {.window = {.stride = 2, .padding = 1}, .output_padding = 1, .groups = 17});
  add({2, 37, 3, 3}, {37, 16, 1, 1}, true, {});
  run_cases(table);
}

TEST_CASE("group and layer norm") {
  std::vector<OpCase> table;
  for (const bool affine : {true, false}) {
    for (const auto& [x, groups] : std::vector<std::pair<Shape, int64_t>>{
             {{2, 6, 3, 5}, 3}, {{3, 17, 2, 3}, 1}, {{2, 4, 1, 3}, 4}, {{3, 12}, 2}, {{1, 34, 1, 1}, 2}})
      table.push_back({.name = "group_norm" + text({x}),
                       .shapes = affine ? std::vector<Shape>{x, {x[1]}, {x[1]}} : std::vector<Shape>{x},
                       .ours =
                           [=, groups = groups](std::vector<Tensor>& t) {
                             return group_norm(t[0], groups, affine ? t[1] : Tensor{}, affine ? t[2] : Tensor{});
                           },
                       .meaning =
                           [=, groups = groups](const Arrays& a) {
                             return reference::group_norm(a[0], affine ? &a[1] : nullptr, affine ? &a[2] : nullptr,
                                                          groups, 1e-5);
                           },
                       .c = 64});
    for (const auto& [x, normalized] : std::vector<std::pair<Shape, Shape>>{
             {{3, 17}, {17}}, {{2, 3, 7}, {7}}, {{2, 3, 4, 5}, {5}}, {{2, 3, 4, 5}, {3, 4, 5}}, {{9}, {9}}})
      table.push_back({.name = "layer_norm" + text({x, normalized}),
                       .shapes = affine ? std::vector<Shape>{x, normalized, normalized} : std::vector<Shape>{x},
                       .ours =
                           [=, normalized = normalized](std::vector<Tensor>& t) {
                             return layer_norm(t[0], normalized, affine ? t[1] : Tensor{}, affine ? t[2] : Tensor{});
                           },
                       .meaning =
                           [=, x = x, normalized = normalized](const Arrays& a) {
                             const int64_t n = normalized.numel();
                             const R rows({x.numel() / n, n}, a[0].v);
                             const R w({n}, affine ? a[1].v : std::vector<double>(size_t(n), 1));
                             const R b({n}, affine ? a[2].v : std::vector<double>(size_t(n), 0));
                             return R(x, reference::group_norm(rows, &w, &b, 1, 1e-5).v);
                           },
                       .c = 64});
  }
  run_cases(table);
}

TEST_CASE("padding, resampling, prelu") {
  std::vector<OpCase> table;
  for (const auto& [x, pads] : std::vector<std::pair<Shape, std::vector<int64_t>>>{{{2, 3, 4, 5}, {1, 2, 0, 3}},
                                                                                   {{2, 17, 1, 2}, {0, 1, 0, 0, 2, 3}},
                                                                                   {{3, 17}, {2, 0}},
                                                                                   {{2, 3, 2}, {1, 1, 2, 2, 3, 3}},
                                                                                   {{2, 3, 2, 2}, {}}})
    table.push_back({.name = "pad" + text({x}),
                     .shapes = {x},
                     .ours = [pads = pads](std::vector<Tensor>& t) { return pad(t[0], pads, -0.5); },
                     .meaning = [pads = pads](const Arrays& a) { return reference::pad(a[0], pads, -0.5); }});
  for (const auto& o : std::vector<InterpolateOptions>{{.size = {5, 3}},
                                                       {.size = {1, 9}},
                                                       {.scale_factor = {2, 3}},
                                                       {.scale_factor = 2, .bilinear = true},
                                                       {.size = {5, 3}, .bilinear = true},
                                                       {.size = {1, 9}, .bilinear = true, .align_corners = true},
                                                       {.size = {7, 2}, .bilinear = true, .align_corners = true}})
    for (const Shape& x : {Shape{2, 3, 4, 5}, {1, 17, 1, 1}, {1, 1, 3, 2}})
      table.push_back({.name = "interpolate" + text({x, {o.size.h, o.size.w}}),
                       .shapes = {x},
                       .ours = [=](std::vector<Tensor>& t) { return interpolate(t[0], o); },
                       .meaning =
                           [=](const Arrays& a) {
                             const Pair to =
                                 o.size == Pair(0) ? Pair(x[2] * o.scale_factor.h, x[3] * o.scale_factor.w) : o.size;
                             return reference::interpolate(a[0], to, o.bilinear, o.align_corners);
                           }});
  for (const auto& [x, w] : std::vector<std::pair<Shape, Shape>>{
           {{2, 17, 3, 5}, {17}}, {{2, 17, 3, 5}, {1}}, {{5, 7}, {7}}, {{2, 3, 4}, {3}}, {{9}, {1}}})
    table.push_back({.name = "prelu" + text({x, w}),
                     .shapes = {x, w},
                     .ours = [](std::vector<Tensor>& t) { return prelu(t[0], t[1]); },
                     .meaning =
                         [=, x = x](const Arrays& a) {
                           R y = a[0];
                           for (int64_t i = 0; i < x.numel(); ++i) {
                             const auto place = reference::place_of(i, x);
                             const double slope = a[1].v[a[1].v.size() == 1 ? 0 : size_t(place[1])];
                             if (y.v[size_t(i)] <= 0) y.v[size_t(i)] *= slope;
                           }
                           return y;
                         }});
  run_cases(table);
}

TEST_CASE("choosing: where, gather, index_select") {
  std::vector<OpCase> table;
  for (const auto& [c, a, b] : std::vector<std::array<Shape, 3>>{{Shape{2, 17, 3, 5}, {2, 17, 3, 5}, {2, 17, 3, 5}},
                                                                 {Shape{2, 1, 3, 5}, {17, 1, 1}, {2, 17, 1, 1}},
                                                                 {Shape{3, 17}, {}, {3, 1}},
                                                                 {Shape{}, {3, 17}, {17}}})
    table.push_back({.name = "where" + text({c, a, b}),
                     .shapes = {c, a, b},
                     .ours = [](std::vector<Tensor>& t) { return where(t[0].detach() > 0.1, t[1], t[2]); },
                     .meaning =
                         [](const Arrays& m) {
                           const R yes = reference::unary(m[0], [](double x) { return double(float(x) > 0.1f); });
                           const R no = reference::unary(yes, [](double x) { return 1 - x; });
                           const auto times = [](double x, double y) { return x * y; };
                           return reference::binary(reference::binary(yes, m[1], times),
                                                    reference::binary(no, m[2], times), std::plus<>());
                         },
                     .grads = {false, true, true}});
  table.push_back({.name = "where with numbers",
                   .shapes = {{3, 17}},
                   .ours = [](std::vector<Tensor>& t) { return where(t[0] > 0, t[0], -2) + where(t[0] < 0, 3, t[0]); },
                   .meaning =
                       [](const Arrays& m) {
                         return reference::unary(m[0], [](double x) { return (x > 0 ? x : -2) + (x < 0 ? 3 : x); });
                       }});
  for (const auto& [x, dim, k] : std::vector<std::tuple<Shape, int, int64_t>>{{{2, 17, 3, 5}, 1, 20},
                                                                              {{2, 17, 3, 5}, 3, 2},
                                                                              {{2, 3, 4, 5}, 0, 4},
                                                                              {{3, 17}, 1, 17},
                                                                              {{7}, 0, 9},
                                                                              {{5, 300}, 0, 3}}) {
    std::vector<int64_t> places;
    for (int64_t i = 0; i < k; ++i) places.push_back(i * 7 % x[dim]);
    table.push_back({.name = "index_select" + text({x}) + std::to_string(dim),
                     .shapes = {x},
                     .ours =
                         [=, dim = dim](std::vector<Tensor>& t) {
                           return index_select(t[0], dim,
                                               Tensor::from(places, {int64_t(places.size())}).to(t[0].device()));
                         },
                     .meaning =
                         [=, dim = dim](const Arrays& a) {
                           Arrays parts;
                           for (int64_t p : places) parts.push_back(reference::slice(a[0], dim, p, p + 1));
                           return reference::cat(parts, dim);
                         },
                     .c = 16});
    for (const bool smaller : {false, true}) {
      Shape shape = x;
      shape[dim] = k;
      if (smaller)
        for (int d = 0; d < x.rank(); ++d)
          if (d != dim) shape[d] -= 1;
      if (shape.numel() == 0 || (smaller && x.rank() == 1)) continue;
      std::vector<int64_t> index;
      for (int64_t i = 0; i < shape.numel(); ++i) index.push_back(i * 7919 % x[dim]);
      table.push_back({.name = "gather" + text({x, shape}) + std::to_string(dim),
                       .shapes = {x},
                       .ours =
                           [=, dim = dim](std::vector<Tensor>& t) {
                             return gather(t[0], dim, Tensor::from(index, shape).to(t[0].device()));
                           },
                       .meaning =
                           [=, x = x, dim = dim](const Arrays& a) {
                             R y(shape);
                             for (int64_t i = 0; i < shape.numel(); ++i) {
                               auto place = reference::place_of(i, shape);
                               place[size_t(dim)] = index[size_t(i)];
                               y.v[size_t(i)] = a[0].v[size_t(reference::index_of(place, x))];
                             }
                             return y;
                           }});
    }
  }
  run_cases(table);
}

TEST_CASE("a place that is none is refused by the CPU, and gives NaN where nobody waits") {
  for (Device device : columns_present()) {
    Tensor x = Tensor::ones({2, 3}).to(device);
    x.set_requires_grad();
    for (const int64_t bad : {int64_t(-1), int64_t(3)}) {
      const Tensor index = Tensor::from(std::vector<int64_t>{0, bad}, {2}).to(device);
      if (device.kind == Device::cpu) {
        CHECK_THROWS_WITH_AS(index_select(x, 1, index),
                             ("[index_select] index " + std::to_string(bad) + " is not one of 3 places").c_str(),
                             Error);
        continue;
      }
      const Tensor y = index_select(x, 1, index);
      const auto v = y.to_vector();
      CHECK((v[0] == 1 && std::isnan(v[1])));
      x.set_grad({});
      backward(sum(y));
      for (float g : x.grad().to_vector()) CHECK(std::isnan(g));
    }
  }
}

TEST_CASE(
    "in place: a op= b writes into a's memory, and a tape that needed it refuses; a taped one makes a new value") {
  for (Device device : columns_present()) {
    Tensor x = Tensor::from(std::vector<float>{1, 2, 3, 4}, {2, 2}).to(device);
    const Tensor same = x;
    x += 1;
    x *= Tensor::from(std::vector<float>{2, 3}, {2}).to(device);
    x -= x;
    x += Tensor::from(std::vector<float>{5}, {1}).to(device);
    x /= 2;
    CHECK(same.to_vector() == std::vector<float>{2.5f, 2.5f, 2.5f, 2.5f});
    CHECK_THROWS_AS(x += Tensor::ones({3, 2, 2}).to(device), Error);

    Tensor w = Tensor::ones({2, 2}).to(device);
    w.set_requires_grad();
    CHECK_THROWS_WITH_AS(w += 1, "[add] in place on a tensor that is to receive a gradient; do so under NoGrad", Error);
    const Tensor y = w * w;
    {
      NoGrad no_grad;
      w -= 0.5;
    }
    CHECK(w.requires_grad());
    CHECK(w.to_vector()[0] == 0.5f);
    CHECK_THROWS_WITH_AS(backward(sum(y)),
                         doctest::Contains("that was saved for the backward pass has been written since"), Error);

    Tensor z = w * w;  // 0.25
    const Tensor before = z;
    z *= w;  // 0.125: what `before` names is as it was
    CHECK(before.to_vector()[0] == 0.25f);
    backward(sum(z));
    CHECK(w.grad().to_vector()[0] == doctest::Approx(3 * 0.25));

    Tensor row = Tensor::from(std::vector<float>{1, 2, 3, 4}, {4}).to(device);
    Tensor tail = row.view_as({3}, 1);
    const Tensor head = row.view_as({3}, 0);
    tail += head;  // overlapping memory: as if head had been read first
    CHECK(row.to_vector() == std::vector<float>{1, 3, 5, 7});
  }
}

TEST_CASE("sums, means, softmax") {
  std::vector<OpCase> table;
  for (bool is_mean : {false, true})
    for (bool keepdim : {false, true})
      for (const auto& dims :
           std::vector<std::vector<int>>{{}, {1}, {2, 3}, {0, 2, 3}, {0}, {-1}, {1, 3}, {0, 1, 2, 3}})
        table.push_back(reduced({2, 17, 3, 5}, dims, keepdim, is_mean));
  table.push_back(reduced({3, 37}, {0}, false, false));
  table.push_back(reduced({3, 37}, {1}, true, true));
  table.push_back(reduced({2, 3, 2, 2, 3}, {4}, false, false));  // a result of rank 4 is stored channels-last
  table.push_back(reduced({1}, {}, false, true));
  for (bool largest : {false, true})
    for (bool keepdim : {false, true}) {
      for (const auto& dims :
           std::vector<std::vector<int>>{{}, {1}, {2, 3}, {0, 2, 3}, {0}, {-1}, {1, 3}, {0, 1, 2, 3}})
        table.push_back(most({2, 17, 3, 5}, dims, keepdim, largest));
      table.push_back(most({3, 137}, {1}, keepdim, largest));
      table.push_back(most({2, 3, 2, 2, 3}, {4}, keepdim, largest));
      for (int dim : {0, 1, 2, 3, -1}) table.push_back(place_of_most({2, 17, 3, 5}, dim, keepdim, largest));
      table.push_back(place_of_most({2, 3, 2, 2, 3}, 4, keepdim, largest));
      table.push_back(place_of_most({3, 137}, 1, keepdim, largest));
      table.push_back(place_of_most({7}, 0, keepdim, largest));
    }
  table.push_back(
      {.name = "argmax of all",
       .shapes = {{2, 3, 4, 5}},
       .ours = [](std::vector<Tensor>& t) { return argmax(t[0]); },
       .meaning = [](const Arrays& a) { return reference::place_of_most(R({120}, a[0].v), 0, false, true); },
       .distinct = true});
  for (bool log : {false, true}) {
    table.push_back(softened({5, 10}, 1, log));
    table.push_back(softened({3, 37}, 0, log));
    table.push_back(softened({2, 17, 2, 3}, 1, log));
    table.push_back(softened({2, 3, 4, 5}, 2, log));
    table.push_back(softened({2, 3, 4, 5}, -1, log));
    table.push_back(softened({4, 1}, 1, log));
  }
  run_cases(table);
}

TEST_CASE("shapes move values and nothing else") {
  const auto shaped = [](const Shape& s) { return [=](const Arrays& a) { return R(s, a[0].v); }; };
  std::vector<OpCase> table;
  for (const auto& [from, to] : std::vector<std::pair<Shape, Shape>>{{{2, 3, 4, 5}, {2, 60}},
                                                                     {{2, 60}, {2, 3, 4, 5}},
                                                                     {{2, 3, 4, 5}, {2, 4, 15, 1}},
                                                                     {{2, 17, 1, 1}, {2, 17}},
                                                                     {{2, 17}, {2, 17, 1, 1}},
                                                                     {{2, 6, 2, 2}, {2, 2, 3, 2, 2}},
                                                                     {{2, 1, 4, 5}, {2, 20}},
                                                                     {{24}, {1, 2, 3, 4}},
                                                                     {{}, {1}}})
    table.push_back(moved(
        "reshape" + text({from, to}), {from}, [to = to](std::vector<Tensor>& t) { return reshape(t[0], to); },
        shaped(to)));
  table.push_back(moved(
      "flatten", {{3, 17, 2, 5}}, [](std::vector<Tensor>& t) { return flatten(t[0]); }, shaped({3, 170})));
  table.push_back(moved(
      "flatten 2", {{2, 3, 4, 5}}, [](std::vector<Tensor>& t) { return flatten(t[0], 2); }, shaped({2, 3, 20})));
  for (const auto& [d0, d1] : std::vector<std::pair<int, int>>{{0, 1}, {1, 3}, {2, 3}, {1, 1}})
    table.push_back(moved(
        "transpose", {{2, 3, 4, 5}}, [d0 = d0, d1 = d1](std::vector<Tensor>& t) { return transpose(t[0], d0, d1); },
        [d0 = d0, d1 = d1](const Arrays& a) { return reference::transpose(a[0], d0, d1); }));
  table.push_back(moved(
      "transpose", {{3, 17}}, [](std::vector<Tensor>& t) { return transpose(t[0], 0, -1); },
      [](const Arrays& a) { return reference::transpose(a[0], 0, 1); }));
  for (int dim : {0, 1, 2, 3}) {
    std::vector<Shape> parts(3, Shape{2, 3, 4, 5});
    parts[1][dim] = 1;
    parts[2][dim] = 7;
    table.push_back(moved(
        "cat " + std::to_string(dim), parts, [=](std::vector<Tensor>& t) { return cat(t, dim); },
        [=](const Arrays& a) { return reference::cat(a, dim); }));
    table.push_back(moved(
        "slice " + std::to_string(dim), {parts[2]}, [=](std::vector<Tensor>& t) { return slice(t[0], dim, 2, 5); },
        [=](const Arrays& a) { return reference::slice(a[0], dim, 2, 5); }));
  }
  table.push_back(moved(
      "cat rank 2", {{3, 1}, {3, 17}}, [](std::vector<Tensor>& t) { return cat(t); },
      [](const Arrays& a) { return reference::cat(a, 1); }));
  for (const auto& order : std::vector<std::vector<int>>{{0, 2, 3, 1}, {3, 0, 1, 2}, {1, -1, 0, 2}, {0, 1, 2, 3}})
    table.push_back(moved(
        "permute", {{2, 3, 4, 5}}, [=](std::vector<Tensor>& t) { return permute(t[0], order); },
        [=](const Arrays& a) { return reference::permute(a[0], order); }));
  table.push_back(moved(
      "permute rank 5", {{2, 3, 1, 5, 2}},
      [](std::vector<Tensor>& t) {
        return permute(t[0], {4, 2, 0, 3, 1});
      },
      [](const Arrays& a) {
        return reference::permute(a[0], {4, 2, 0, 3, 1});
      }));
  for (int dim : {0, 1, 2, 3, -1}) {
    Shape to{3, 17, 5};
    to = Shape();
    const int at = dim < 0 ? dim + 4 : dim;
    for (int d = 0; d < 4; ++d) to.push_back(d == at ? 1 : Shape{3, 17, 5}[d < at ? d : d - 1]);
    table.push_back(moved(
        "unsqueeze " + std::to_string(dim), {{3, 17, 5}}, [=](std::vector<Tensor>& t) { return unsqueeze(t[0], dim); },
        shaped(to)));
  }
  table.push_back(moved(
      "squeeze", {{2, 1, 5, 1}}, [](std::vector<Tensor>& t) { return squeeze(t[0]); }, shaped({2, 5})));
  table.push_back(moved(
      "squeeze one", {{2, 1, 5, 1}}, [](std::vector<Tensor>& t) { return squeeze(squeeze(t[0], -1), 0); },
      shaped({2, 1, 5})));
  table.push_back(moved(
      "reshape -1", {{2, 3, 4, 5}},
      [](std::vector<Tensor>& t) {
        return reshape(reshape(t[0], {-1, 5}), {2, -1, 3});
      },
      shaped({2, 20, 3})));
  table.push_back(moved(
      "stack", {{2, 3, 4}, {2, 3, 4}}, [](std::vector<Tensor>& t) { return stack(t, -2); },
      [](const Arrays& a) {
        return reference::cat({R({2, 3, 1, 4}, a[0].v), R({2, 3, 1, 4}, a[1].v)}, 2);
      }));
  table.push_back(moved(
      "split and chunk", {{2, 7, 3, 2}},
      [](std::vector<Tensor>& t) {
        const auto parts = split(t[0], {2, 4, 1}, 1), equal = split(t[0], 3, 1), few = chunk(t[0], 3, 1);
        REQUIRE((parts.size() == 3 && equal.size() == 3 && few.size() == 3));
        return cat({parts[1], equal[2], few[0]});
      },
      [](const Arrays& a) {
        return reference::cat(
            {reference::slice(a[0], 1, 2, 6), reference::slice(a[0], 1, 6, 7), reference::slice(a[0], 1, 0, 3)}, 1);
      }));
  table.push_back(moved(
      "an operand twice", {{2, 3, 2, 2}},
      [](std::vector<Tensor>& t) {
        return cat({t[0], t[0]});
      },
      [](const Arrays& a) {
        return reference::cat({a[0], a[0]}, 1);
      }));
  run_cases(table);
}

TEST_CASE("losses") {
  std::vector<OpCase> table;
  for (float smoothing : {0.f, 0.1f})
    for (bool from_logits : {false, true}) {
      table.push_back(likelihood(5, 10, smoothing, from_logits));
      table.push_back(likelihood(1, 37, smoothing, from_logits));
    }
  table.push_back({.name = "mse_loss",
                   .shapes = {{3, 17}, {3, 17}},
                   .ours = [](std::vector<Tensor>& t) { return mse_loss(t[0], t[1]); },
                   .meaning =
                       [](const Arrays& a) {
                         return reference::sum(
                             reference::binary(a[0], a[1], [](double x, double y) { return (x - y) * (x - y); }), {},
                             false, true);
                       }});
  const auto mean_of = [](const R& x) { return reference::sum(x, {}, false, true); };
  table.push_back({.name = "l1_loss",
                   .shapes = {{3, 17}, {3, 17}},
                   .ours = [](std::vector<Tensor>& t) { return l1_loss(t[0], t[1]); },
                   .meaning =
                       [=](const Arrays& a) {
                         return mean_of(
                             reference::binary(a[0], a[1], [](double x, double y) { return std::abs(x - y); }));
                       }});
  table.push_back({.name = "smooth_l1_loss",
                   .shapes = {{3, 17}, {3, 17}},
                   .ours = [](std::vector<Tensor>& t) { return smooth_l1_loss(t[0], t[1], 0.5f); },
                   .meaning =
                       [=](const Arrays& a) {
                         return mean_of(reference::binary(a[0], a[1], [](double x, double y) {
                           const double d = std::abs(x - y);
                           return d < 0.5 ? d * d : d - 0.25;
                         }));
                       }});
  table.push_back({.name = "binary_cross_entropy",
                   .shapes = {{3, 17}, {3, 17}},
                   .ours = [](std::vector<Tensor>& t) { return binary_cross_entropy(t[0], t[1].detach()); },
                   .meaning =
                       [=](const Arrays& a) {
                         return mean_of(reference::binary(a[0], a[1], [](double x, double y) {
                           return -y * std::log(x) - (1 - y) * std::log(1 - x);
                         }));
                       },
                   .low = 0.1,
                   .high = 0.9,
                   .grads = {true, false}});
  table.push_back({.name = "binary_cross_entropy_with_logits",
                   .shapes = {{3, 17}, {3, 17}},
                   .ours = [](std::vector<Tensor>& t) { return binary_cross_entropy_with_logits(t[0], t[1].detach()); },
                   .meaning =
                       [=](const Arrays& a) {
                         return mean_of(reference::binary(
                             a[0], a[1], [](double x, double y) { return (1 - y) * x + std::log1p(std::exp(-x)); }));
                       },
                   .low = -4,
                   .high = 4,
                   .grads = {true, false}});
  for (const float smoothing : {0.f, 0.2f})
    table.push_back({.name = "cross_entropy with weights",
                     .shapes = {{5, 10}},
                     .ours =
                         [=](std::vector<Tensor>& t) {
                           std::vector<float> w;
                           for (int i = 0; i < 10; ++i) w.push_back(0.5f + float(i % 4));
                           const Device d = t[0].device();
                           return cross_entropy(t[0], Tensor::from(labels(5, 10), {5}).to(d), smoothing,
                                                Tensor::from(w, {10}).to(d));
                         },
                     .meaning =
                         [=](const Arrays& a) {
                           const R logp = reference::softmax(a[0], 1, true);
                           const auto target = labels(5, 10);
                           const auto w = [](int64_t i) { return 0.5 + double(i % 4); };
                           double loss = 0, all = 0;
                           for (int64_t i = 0; i < 5; ++i) {
                             all += w(target[size_t(i)]);
                             loss -= (1 - double(smoothing)) * w(target[size_t(i)]) * logp({i, target[size_t(i)]});
                             for (int64_t k = 0; k < 10; ++k) loss -= double(smoothing) / 10 * w(k) * logp({i, k});
                           }
                           return R(Shape{}, loss / all);
                         },
                     .low = -4,
                     .high = 4});
  table.push_back({.name = "kl_div",
                   .shapes = {{3, 17}, {3, 17}},
                   .ours = [](std::vector<Tensor>& t) { return kl_div(log_softmax(t[0]), softmax(t[1]).detach()); },
                   .meaning =
                       [](const Arrays& a) {
                         const R logp = reference::softmax(a[0], 1, true), target = reference::softmax(a[1], 1, false);
                         R loss = reference::sum(
                             reference::binary(logp, target, [](double p, double t) { return t * (std::log(t) - p); }),
                             {}, false, false);
                         loss.v[0] /= 3;
                         return loss;
                       },
                   .grads = {true, false}});
  run_cases(table);
}
