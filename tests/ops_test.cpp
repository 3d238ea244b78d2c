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
OpCase function(const std::string& name, F ours, std::function<double(double)> meaning, double kink = NAN) {
  return {.name = name,
          .shapes = {{3, 17, 2, 5}},
          .ours = [=](std::vector<Tensor>& t) { return ours(t[0]); },
          .meaning = [=](const Arrays& a) { return reference::unary(a[0], meaning); },
          .low = -8,
          .high = 8,
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
  };
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
  }
  run_cases(table);
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
