// The naive interpreter: one loop per rule, over the logical places of a tensor or of its memory.
#include <espalier/compress/quantize/codes.h>
#include <espalier/compress/quantize/exact.h>
#include <espalier/core/arithmetic.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/conv2d.h>
#include <espalier/core/ops/pool.h>
#include <espalier/core/parallel.h>
#include <espalier/core/pool_windows.h>

#include <array>

namespace espalier {

namespace {

using geometry::Coding;

// Codes as numbers, in memory order.
std::vector<int32_t> numbers(const Tensor& t) {
  std::vector<int32_t> n(static_cast<size_t>(t.numel()));
  visit(t.dtype(), [&]<class T>(T) {
    if constexpr (sizeof(T) == 1 || std::is_same_v<T, int32_t>)
      for (int64_t i = 0; i < t.numel(); ++i) n[size_t(i)] = t.in().as<T>()[i];
  });
  return n;
}

// f(i) for every element of y, in memory order.
template <class F>
void fill_codes(Tensor& y, F f) {
  auto* to = y.out().as<uint8_t>();
  for (int64_t i = 0; i < y.numel(); ++i) to[i] = uint8_t(f(i));
}

geometry::Conv geometry_of(const Op& op, const Shape& x, const Shape& weight) {
  if (const auto* conv = dynamic_cast<const Conv2dOp*>(&op))
    return conv->geometry(std::array<Shape, 3>{x, weight, Shape{}});
  return {.n = x[0], .c = x[1], .h = 1, .w = 1, .o = weight[0], .kh = 1, .kw = 1};
}

// acc = b + Σ (q_x - z_x)(q_w - z_w) for every output, then one multiplication. Padding is 0: nothing is added.
void layer(const Op& op, const IntegerLayer& l, const Tensor& x, Tensor& y) {
  const geometry::Conv g = geometry_of(op, x.shape(), l.weight.shape());
  const std::vector<int32_t> codes = numbers(x), weight = numbers(l.weight), bias = numbers(l.bias);
  const std::vector<int32_t> zero = l.zero.defined() ? numbers(l.zero) : std::vector<int32_t>(size_t(g.o), 0);
  const float* scale = l.scale.data();
  const int64_t cg = g.c / g.groups, og = g.o / g.groups, pixels = g.out_h() * g.out_w();
  const Out out = y.out();
  parallel_for(g.n * pixels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      for (int64_t o = 0; o < g.o; ++o) {
        int32_t acc = bias[size_t(o)];
        for (int64_t tap = 0; tap < g.kh * g.kw; ++tap) {
          const int64_t iy = i % pixels / g.out_w() * g.stride_h - g.pad_h + tap / g.kw * g.dilation_h;
          const int64_t ix = i % pixels % g.out_w() * g.stride_w - g.pad_w + tap % g.kw * g.dilation_w;
          if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
          const int32_t* q = codes.data() + ((i / pixels * g.h + iy) * g.w + ix) * g.c + o / og * cg;
          const int32_t* w = weight.data() + (o * g.kh * g.kw + tap) * cg;
          for (int64_t c = 0; c < cg; ++c) acc += (q[c] - l.requant.zx) * (w[c] - zero[size_t(o)]);
        }
        const int64_t at = i * g.o + o;
        if (l.to_float)
          out.f32()[at] = times(float(acc), scale[o]);
        else
          out.as<uint8_t>()[at] = uint8_t(requantize(acc, scale[o], l.requant.zy, l.requant.lo, l.requant.hi));
      }
  });
}

void average(const PoolOp& pool, const geometry::AverageCodes& rule, const Tensor& x, Tensor& y) {
  const geometry::Pool g = pool.geometry(x.shape());
  const std::vector<int32_t> codes = numbers(x);
  fill_codes(y, [&](int64_t i) {
    const int64_t c = i % g.c, ox = i / g.c % g.out_w, oy = i / (g.c * g.out_w) % g.out_h;
    const int64_t image = i / (g.c * g.out_w * g.out_h) * g.h * g.w;
    const geometry::Span rows = pool_rows(g).window(oy), columns = pool_columns(g).window(ox);
    int32_t sum = 0;
    float real = 0;
    for (int64_t iy = rows.begin; iy < rows.end; ++iy)
      for (int64_t ix = columns.begin; ix < columns.end; ++ix) {
        const int32_t code = codes[size_t((image + iy * g.w + ix) * g.c + c)];
        sum += code;
        real += decode(code, rule.x);
      }
    const auto count = int32_t(
        g.count_include_pad && !g.adaptive ? g.kh * g.kw : (rows.end - rows.begin) * (columns.end - columns.begin));
    return rule.whole ? average_whole(sum, count, rule) : average_window(real, count, rule);
  });
}

// An input, perhaps under another shape.
bool is_given(const Graph& graph, int i) {
  const GraphValue& v = graph.values[size_t(i)];
  if (v.kind != GraphValue::result) return v.kind == GraphValue::input;
  return moves_codes(*v.op) && v.inputs.size() == 1 && is_given(graph, v.inputs[0]);
}

void refuse_floats(const Graph& graph, const std::vector<CodedValue>& values) {
  for (size_t i = 0; i < values.size(); ++i) {
    const GraphValue& v = graph.values[i];
    if (v.kind != GraphValue::result) continue;
    const bool is_layer = v.op->name() == "conv2d" || v.op->name() == "linear";
    if (is_layer && values[i].rule == CodedValue::floats)
      fail(ErrorKind::data, "[exact] ", v.name, " is not in integers: ", values[i].why);
    if (values[i].rule == CodedValue::quantize && !is_given(graph, values[i].from[0])) {
      const size_t from = size_t(values[i].from[0]);
      fail(ErrorKind::data, "[exact] ", v.name, " quantizes a float intermediate, ", graph.values[from].name,
           values[from].why.empty() ? "" : ": " + values[from].why);
    }
  }
}

}  // namespace

void expect_finite(const std::string& name, const Tensor& x) {
  Tensor counts = Tensor::zeros({1}, DType::s64, x.device());
  run::count_not_finite(x.device(), 0, x.in(), counts.out());
  if (const auto n = int64_t(counts.item()))
    fail(ErrorKind::data, "[quantize] ", name, ": ", n, " of ", x.numel(), " values are not finite");
}

Exact exact(const Graph& graph, std::vector<Tensor> inputs) {
  const NoGrad no_grad;
  const std::vector<CodedValue> values = read_codes(graph);
  refuse_floats(graph, values);
  if (inputs.size() != graph.inputs.size())
    fail(ErrorKind::other, "[exact] expected ", graph.inputs.size(), " input(s), got ", inputs.size());

  std::vector<Tensor> known(values.size());
  for (size_t i = 0; i < inputs.size(); ++i) known[size_t(graph.inputs[i])] = inputs[i];
  // What an op that knows only real numbers reads.
  const auto real = [&](int i) {
    if (i < 0 || !values[size_t(i)].coding || known[size_t(i)].dtype() != DType::u8)
      return i < 0 ? Tensor{} : known[size_t(i)];
    const Tensor& codes = known[size_t(i)];
    Tensor y = Tensor::empty(codes.shape());
    for (int64_t k = 0; k < codes.numel(); ++k)
      y.out().f32()[k] = decode(codes.in().as<uint8_t>()[k], *values[size_t(i)].coding);
    return y;
  };

  Exact result;
  for (size_t i = 0; i < values.size(); ++i) {
    const CodedValue& v = values[i];
    const GraphValue& value = graph.values[i];
    const auto from = [&](size_t k) -> const Tensor& { return known[size_t(v.from[k])]; };
    const auto op = [&]() -> const Op& { return *graph.values[size_t(v.op)].op; };
    Tensor& y = known[i];
    switch (v.rule) {
      case CodedValue::inside:
        break;
      case CodedValue::constant:
        if (value.kind != GraphValue::result) {
          y = value.value;
          break;
        }
        [[fallthrough]];
      case CodedValue::floats: {
        if (value.kind == GraphValue::input) break;
        std::vector<Tensor> operands;
        for (const int in : value.inputs) operands.push_back(real(in));
        y = graph.compute(int(i), operands);
        break;
      }
      case CodedValue::quantize:
        expect_finite(value.name, from(0));
        y = Tensor::empty(from(0).shape(), DType::u8);
        fill_codes(y, [&](int64_t k) {
          const float x = from(0).data()[k];
          return encode(v.signs ? binarize_one(x) : x, *v.coding);
        });
        break;
      case CodedValue::layer: {
        const std::array<Shape, 3> shapes{from(0).shape(), v.integers->weight.shape(), Shape{}};
        y = Tensor::empty(op().infer(shapes), v.integers->to_float ? DType::f32 : DType::u8);
        layer(op(), *v.integers, from(0), y);
        break;
      }
      case CodedValue::add: {
        y = Tensor::empty(from(0).shape(), DType::u8);
        const auto *a = from(0).in().as<uint8_t>(), *b = from(1).in().as<uint8_t>();
        fill_codes(y, [&](int64_t k) { return add_one(a[k], b[k], v.sum); });
        break;
      }
      case CodedValue::average: {
        const auto& pool = dynamic_cast<const PoolOp&>(op());
        y = Tensor::empty(pool.infer(std::array<Shape, 1>{from(0).shape()}), DType::u8);
        average(pool, v.mean, from(0), y);
        break;
      }
      case CodedValue::lookup:
        y = Tensor::empty(from(0).shape(), DType::u8);
        fill_codes(y, [&](int64_t k) { return v.table[from(0).in().as<uint8_t>()[k]]; });
        break;
      case CodedValue::move: {
        // Codes are ordered as their values are, and small integers are exact in f32: the op itself moves them.
        std::vector<Tensor> operands;
        for (const int in : v.from) operands.push_back(known[size_t(in)].to(DType::f32));
        y = graph.compute(int(i), operands).to(DType::u8);
        break;
      }
    }
    if (v.coding) result.codes.emplace_back(value.name, y);
  }
  result.output = real(graph.output);
  return result;
}

}  // namespace espalier
