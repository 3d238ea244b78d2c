// What operations say about themselves besides numbers: how channels couple, FLOPs, attributes, and their errors.
#include <doctest/doctest.h>
#include <espalier/core/ops/ops.h>

#include <functional>
#include <sstream>

using namespace espalier;

namespace {

Tensor t(const Shape& s) { return Tensor::full(s, 0.5f); }

// Records one op and asks it how the tags of its operands meet.
struct Probe {
  Coupling c;
  Tensor y;
  std::vector<Dims> in;
  Dims out;

  // Each operand's listed dimensions get fresh tags.
  Probe(std::function<Tensor()> f, std::vector<std::vector<int>> tagged) {
    {
      Tracing on;
      y = f();
    }
    const Node& node = *y.node();
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      const Shape s = shape(i);
      Dims dims(size_t(s.rank()));
      if (i < tagged.size())
        for (int d : tagged[i]) dims[size_t(d)] = c.fresh(s[d]);
      in.push_back(dims);
    }
    couple();
  }
  Shape shape(size_t i) const { return y.node()->inputs[i] ? y.node()->inputs[i]->shape : Shape{}; }
  void couple() {
    std::vector<Shape> shapes;
    for (size_t i = 0; i < in.size(); ++i) shapes.push_back(shape(i));
    out = y.node()->op->couple(c, in, shapes, y.shape());
  }
  const Tags& tags(size_t operand, size_t dim) const { return in[operand][dim]; }
  bool same(int a, int b) { return c.root(a) == c.root(b); }
  bool same(const Tags& a, const Tags& b) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i)
      if (!same(a[i], b[i])) return false;
    return true;
  }
  bool pinned(const Tags& a) {
    for (int tag : a)
      if (!c.pinned(tag)) return false;
    return !a.empty();
  }
  bool free(const Tags& a) {
    for (int tag : a)
      if (c.pinned(tag)) return false;
    return !a.empty();
  }
};

std::string message(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) { return e.what(); }
  return "no error";
}

int64_t flops(const Tensor& y) {
  std::vector<Shape> shapes;
  for (const auto& input : y.node()->inputs) shapes.push_back(input ? input->shape : Shape{});
  return y.node()->op->flops(shapes, y.shape());
}

int64_t flops_of(const std::function<Tensor()>& f) {
  Tracing on;
  return flops(f());
}

}  // namespace

TEST_CASE("a convolution joins its input with its weight's slices and gives its filters on") {
  Probe p([] { return conv2d(t({2, 3, 4, 4}), t({5, 3, 3, 3}), t({5})); }, {{1}, {0, 1}, {0}});
  CHECK(p.same(p.tags(0, 1), p.tags(1, 1)));
  CHECK(p.same(p.tags(2, 0), p.tags(1, 0)));
  CHECK(p.out[1] == p.tags(1, 0));
  CHECK_FALSE(p.same(p.tags(1, 0)[0], p.tags(1, 1)[0]));
  CHECK(p.free(p.out[1]));
  CHECK((p.out[0].empty() && p.out[2].empty() && p.out[3].empty()));
}

TEST_CASE("what meets an input that never shrinks does not shrink") {
  Probe p([] { return conv2d(t({2, 3, 4, 4}), t({5, 3, 3, 3})); }, {{}, {0, 1}});
  CHECK(p.pinned(p.tags(1, 1)));
  CHECK(p.free(p.tags(1, 0)));
  CHECK(p.c.pinned_by(p.tags(1, 1)[0]) == "conv2d");
}

TEST_CASE("depthwise and grouped convolutions couple as they should") {
  Probe depthwise([] { return conv2d(t({1, 17, 4, 4}), t({17, 1, 3, 3}), {}, {}, 17); }, {{1}, {0, 1}});
  CHECK(depthwise.same(depthwise.tags(0, 1), depthwise.tags(1, 0)));
  CHECK(depthwise.free(depthwise.tags(1, 0)));
  CHECK(depthwise.pinned(depthwise.tags(1, 1)));
  CHECK_FALSE(depthwise.same(depthwise.tags(0, 1)[0], depthwise.tags(0, 1)[1]));

  Probe one([] { return conv2d(t({1, 1, 4, 4}), t({6, 1, 3, 3})); }, {{1}, {0, 1}});  // a real channel, not depthwise
  CHECK(one.same(one.tags(0, 1), one.tags(1, 1)));
  CHECK_FALSE(one.same(one.tags(0, 1)[0], one.tags(1, 0)[0]));
  CHECK(one.free(one.tags(1, 0)));

  Probe twice([] { return conv2d(t({1, 3, 4, 4}), t({6, 1, 3, 3}), {}, {}, 3); }, {{1}, {0, 1}});
  CHECK(twice.same(twice.tags(0, 1)[1], twice.tags(1, 0)[2]));
  CHECK(twice.same(twice.tags(0, 1)[1], twice.tags(1, 0)[3]));
  CHECK_FALSE(twice.same(twice.tags(0, 1)[1], twice.tags(1, 0)[4]));

  Probe grouped([] { return conv2d(t({1, 6, 4, 4}), t({9, 2, 3, 3}), {}, {}, 3); }, {{1}, {0, 1}});
  const Tags &x = grouped.tags(0, 1), &filters = grouped.tags(1, 0), &slices = grouped.tags(1, 1);
  for (size_t i = 0; i < 6; ++i) CHECK(grouped.same(x[i], slices[i % 2]));
  for (size_t i = 0; i < 9; ++i) CHECK(grouped.same(filters[i], filters[i % 3]));
  CHECK_FALSE(grouped.same(x[0], x[1]));
  CHECK_FALSE(grouped.same(filters[0], filters[1]));
  CHECK_FALSE(grouped.same(filters[0], x[0]));
}

TEST_CASE("linear, matmul, batch norm") {
  Probe l([] { return linear(t({2, 3}), t({4, 3}), t({4})); }, {{1}, {0, 1}, {0}});
  CHECK(l.same(l.tags(0, 1), l.tags(1, 1)));
  CHECK(l.same(l.out[1], l.tags(2, 0)));

  Probe m([] { return matmul(t({3, 2}), t({4, 3}), true, true); }, {{0, 1}, {0, 1}});
  CHECK(m.same(m.tags(0, 0), m.tags(1, 1)));
  CHECK((m.out[0] == m.tags(0, 1) && m.out[1] == m.tags(1, 0)));

  Tensor mean = t({3}), var = t({3});
  Probe n(
      [&] {
        return batch_norm(t({2, 3, 2, 2}), t({3}), t({3}), mean, var, {.training = false});
      },
      {{1}, {0}, {0}, {0}, {0}});
  for (size_t i = 1; i < 5; ++i) CHECK(n.same(n.tags(i, 0), n.out[1]));
  CHECK(n.same(n.tags(0, 1), n.out[1]));
}

TEST_CASE("elementwise: equal dimensions share a fate, repeated ones live") {
  Probe residual([] { return t({2, 3, 4, 4}) + t({2, 3, 4, 4}); }, {{1}, {1}});
  CHECK(residual.same(residual.tags(0, 1), residual.tags(1, 1)));
  CHECK(residual.free(residual.out[1]));

  Probe gate([] { return t({2, 3, 4, 4}) * t({2, 3, 1, 1}); }, {{1}, {1}});
  CHECK(gate.same(gate.tags(0, 1), gate.tags(1, 1)));

  Probe scale([] { return t({2, 3, 4, 4}) * t({3, 1, 1}); }, {{1}, {0}});
  CHECK(scale.same(scale.tags(0, 1), scale.tags(1, 0)));

  Probe repeated([] { return t({2, 3, 4, 4}) * t({2, 1, 4, 4}); }, {{1}, {1}});
  CHECK(repeated.pinned(repeated.tags(1, 1)));
  CHECK(repeated.free(repeated.out[1]));
  CHECK(repeated.out[1] == repeated.tags(0, 1));

  Probe single([] { return t({2, 1, 4, 4}) + t({2, 1, 4, 4}); }, {{1}, {1}});  // a channel dimension of one
  CHECK(single.same(single.tags(0, 1), single.tags(1, 1)));
  CHECK(single.free(single.out[1]));

  Probe constant([] { return t({2, 3, 4, 4}) + t({2, 3, 4, 4}); }, {{1}, {}});
  CHECK(constant.pinned(constant.tags(0, 1)));
  Probe scalar([] { return t({2, 3, 4, 4}) + t({}); }, {{1}, {}});
  CHECK(scalar.free(scalar.out[1]));
}

TEST_CASE("what chooses and reshapes couples as its kin") {
  Probe chosen([] { return where(t({2, 3, 4, 4}), t({2, 3, 4, 4}), t({2, 3, 1, 1})); }, {{1}, {1}, {1}});
  CHECK(chosen.same(chosen.tags(0, 1), chosen.tags(1, 1)));
  CHECK(chosen.same(chosen.tags(2, 1), chosen.out[1]));
  CHECK(chosen.free(chosen.out[1]));
  Probe number([] { return where(t({2, 3, 4, 4}), t({2, 3, 4, 4}), 0); }, {{1}, {1}, {}});
  CHECK(number.free(number.out[1]));
  const auto places = [](int64_t n) { return Tensor::zeros({n}, DType::s64); };
  Probe picked([&] { return index_select(t({2, 3, 4}), 1, places(5)); }, {{1, 2}, {}});
  CHECK(picked.pinned(picked.tags(0, 1)));
  CHECK((picked.out[1].empty() && picked.out[2] == picked.tags(0, 2) && picked.free(picked.out[2])));
  Probe gathered([&] { return gather(t({2, 3}), 0, Tensor::zeros({2, 3}, DType::s64)); }, {{1}, {}});
  CHECK(gathered.pinned(gathered.tags(0, 1)));
  Probe turned([] { return permute(t({2, 3, 4, 5}), {0, 2, 3, 1}); }, {{1}});
  CHECK((turned.out[3] == turned.tags(0, 1) && turned.out[1].empty()));
  Probe raised([] { return unsqueeze(t({2, 3}), 1); }, {{1}});
  CHECK((raised.out[2] == raised.tags(0, 1) && raised.out[1].empty()));
  Probe squeezed([] { return squeeze(t({2, 3, 1, 1})); }, {{1}});
  CHECK(squeezed.out[1] == squeezed.tags(0, 1));
  Probe largest([] { return amax(t({2, 3, 2, 2}), {1}); }, {{1}});
  CHECK(largest.pinned(largest.tags(0, 1)));
  Probe spatial([] { return amax(t({2, 3, 2, 2}), {2, 3}); }, {{1}});
  CHECK((spatial.out[1] == spatial.tags(0, 1) && spatial.free(spatial.out[1])));
  Probe twice([] { return t({2, 3, 4, 4}) * 2; }, {{1}, {}});
  CHECK((twice.out[1] == twice.tags(0, 1) && twice.free(twice.out[1])));
}

TEST_CASE("transposed convolutions, norms within an example, padding, resampling") {
  Probe plain([] { return conv_transpose2d(t({2, 3, 4, 4}), t({3, 5, 2, 2}), t({5})); }, {{1}, {0, 1}, {0}});
  CHECK(plain.same(plain.tags(0, 1), plain.tags(1, 0)));
  CHECK(plain.same(plain.tags(2, 0), plain.out[1]));
  CHECK((plain.out[1] == plain.tags(1, 1) && plain.free(plain.out[1])));
  Probe depthwise([] { return conv_transpose2d(t({2, 3, 4, 4}), t({3, 1, 2, 2}), {}, {.groups = 3}); }, {{1}, {0, 1}});
  CHECK(depthwise.same(depthwise.tags(0, 1), depthwise.out[1]));
  CHECK((depthwise.free(depthwise.out[1]) && depthwise.pinned(depthwise.tags(1, 1))));
  Probe grouped(
      [] {
        return conv_transpose2d(t({2, 4, 4, 4}), t({4, 3, 2, 2}), t({6}), {.groups = 2});
      },
      {{1}, {0, 1}, {0}});
  CHECK(
      (grouped.pinned(grouped.tags(0, 1)) && grouped.pinned(grouped.tags(1, 0)) && grouped.pinned(grouped.tags(2, 0))));
  Probe normed([] { return group_norm(t({2, 4, 3, 3}), 2, t({4}), t({4})); }, {{1}, {0}, {0}});
  CHECK((normed.pinned(normed.tags(0, 1)) && normed.same(normed.tags(1, 0), normed.out[1])));
  Probe padded([] { return pad(t({2, 3, 4, 4}), {1, 1, 1, 1, 0, 2}); }, {{1}});
  CHECK((padded.out[1].size() == 5 && padded.free(padded.tags(0, 1))));
  CHECK(padded.pinned({padded.out[1].begin() + 3, padded.out[1].end()}));
  Probe larger([] { return interpolate(t({2, 3, 4, 4}), {.scale_factor = 2}); }, {{1}});
  CHECK((larger.out[1] == larger.tags(0, 1) && larger.free(larger.out[1])));
  Probe sloped([] { return prelu(t({2, 3}), t({3})); }, {{1}, {0}});
  CHECK(sloped.same(sloped.tags(0, 1), sloped.tags(1, 0)));
  CHECK(flops_of([] {
          return conv_transpose2d(t({2, 3, 4, 4}), t({3, 5, 2, 2}), t({5}), {.window = {.stride = 2}});
        }) == 2 * 5 * 64 * (3 * 4 + 1));
  CHECK(flops_of([] { return group_norm(t({2, 4, 3, 3}), 2); }) == 2 * 2 * 36);
  CHECK(flops_of([] { return prelu(t({2, 3}), t({1})); }) == 6);
}

TEST_CASE("cat appends, slices take, equal parts stay equal") {
  Probe cats([] { return cat({t({1, 2, 3, 3}), t({1, 3, 3, 3})}); }, {{1}, {1}});
  CHECK(cats.out[1].size() == 5);
  CHECK(cats.out[1][1] == cats.tags(0, 1)[1]);
  CHECK(cats.out[1][2] == cats.tags(1, 1)[0]);
  CHECK(cats.free(cats.out[1]));

  Probe half([] { return cat({t({1, 2, 3, 3}), t({1, 3, 3, 3})}); }, {{1}, {}});  // images beside features
  CHECK(half.out[1].size() == 5);
  CHECK(half.free(half.tags(0, 1)));
  CHECK(half.pinned({half.out[1].begin() + 2, half.out[1].end()}));

  Probe rows([] { return cat({t({1, 3}), t({2, 3})}, 0); }, {{1}, {1}});
  CHECK(rows.same(rows.tags(0, 1), rows.tags(1, 1)));
  CHECK(rows.out[0].empty());

  Probe chunk([] { return slice(t({1, 6, 2, 2}), 1, 2, 4); }, {{1}});
  CHECK(chunk.out[1].size() == 2);
  CHECK(chunk.same(chunk.tags(0, 1)[0], chunk.tags(0, 1)[4]));
  CHECK_FALSE(chunk.same(chunk.tags(0, 1)[0], chunk.tags(0, 1)[1]));
  CHECK(chunk.free(chunk.out[1]));

  Probe odd([] { return slice(t({1, 6, 2, 2}), 1, 1, 5); }, {{1}});  // bounds that shrinking cannot follow
  CHECK(odd.pinned(odd.tags(0, 1)));
  Probe crop([] { return slice(t({1, 6, 4, 2}), 2, 1, 3); }, {{1}});
  CHECK(crop.free(crop.out[1]));
}

TEST_CASE("reshaping repeats, splits pin") {
  Probe flat([] { return flatten(t({1, 3, 2, 2})); }, {{1}});
  CHECK(flat.out[1].size() == 12);
  CHECK(flat.out[1][5] == flat.tags(0, 1)[1]);
  Probe gate([] { return reshape(t({2, 3}), {2, 3, 1, 1}); }, {{1}});
  CHECK(gate.out[1] == gate.tags(0, 1));
  Probe squeezed([] { return reshape(t({2, 3, 1, 1}), {2, 3}); }, {{1}});
  CHECK(squeezed.out[1] == squeezed.tags(0, 1));
  Probe deep([] { return reshape(t({2, 3, 2, 2}), {2, 1, 12}); }, {{1}});
  CHECK(deep.out[2].size() == 12);
  Probe split([] { return reshape(t({2, 6, 2, 2}), {2, 3, 2, 2, 2}); }, {{1}});
  CHECK(split.pinned(split.tags(0, 1)));
  CHECK(split.out[1].empty());
  Probe turned([] { return transpose(t({2, 3, 4, 5}), 1, -1); }, {{1}});
  CHECK((turned.out[3] == turned.tags(0, 1) && turned.out[1].empty()));
}

TEST_CASE("means over channels and softmax pin, sums do not") {
  Probe m([] { return mean(t({2, 3, 2, 2}), {1}); }, {{1}});
  CHECK(m.pinned(m.tags(0, 1)));
  Probe s([] { return sum(t({2, 3, 2, 2}), {1}); }, {{1}});
  CHECK(s.free(s.tags(0, 1)));
  CHECK(s.out.size() == 3);
  Probe spatial([] { return mean(t({2, 3, 2, 2}), {2, 3}, true); }, {{1}});
  CHECK((spatial.out.size() == 4 && spatial.free(spatial.out[1])));
  Probe soft([] { return softmax(t({2, 3})); }, {{1}});
  CHECK(soft.pinned(soft.tags(0, 1)));
  Probe loss([] { return nll_loss(t({2, 3}), Tensor::zeros({2}, DType::s64)); }, {{1}});
  CHECK(loss.pinned(loss.tags(0, 1)));
  for (auto f : std::vector<std::function<Tensor()>>{[] {
                                                       return relu(t({2, 3, 4, 4}));
                                                     },
                                                     [] {
                                                       return max_pool2d(t({2, 3, 4, 4}), {});
                                                     },
                                                     [] {
                                                       return avg_pool2d(t({2, 3, 4, 4}), {});
                                                     },
                                                     [] {
                                                       return adaptive_avg_pool2d(t({2, 3, 4, 4}), 1);
                                                     },
                                                     [] {
                                                       return dropout(t({2, 3, 4, 4}), {});
                                                     }}) {
    Probe p(f, {{1}});
    CHECK((p.out[1] == p.tags(0, 1) && p.free(p.out[1])));
  }
}

namespace {

// Is the output zero where the first operand is, and everything that shares its shape?
bool zero_from_zeros(const Tensor& y) {
  std::vector<Slice> states;
  for (const auto& input : y.node()->inputs)
    states.push_back(!input ? Slice::absent : input->shape == y.node()->inputs[0]->shape ? Slice::zero : Slice::live);
  return y.node()->op->zero(states);
}

}  // namespace

TEST_CASE("who keeps zeros") {
  Tensor mean3 = t({3}), var3 = t({3});
  const Tensor x = t({2, 3, 4, 4});
  Tracing on;
  for (const Tensor& y : {relu(x),
                          relu6(x),
                          leaky_relu(x),
                          hardtanh(x),
                          tanh(x),
                          silu(x),
                          gelu(x),
                          x + x,
                          x - x,
                          x * x,
                          cat({x, x}),
                          slice(x, 1, 0, 1),
                          flatten(x),
                          transpose(x, 0, 1),
                          mean(x),
                          sum(x),
                          -x,
                          abs(x),
                          sqrt(x),
                          pow(x, 2),
                          clamp(x, -1, 1),
                          maximum(x, x),
                          x > x,
                          where(x, x, x),
                          amax(x),
                          permute(x, {0, 2, 3, 1}),
                          unsqueeze(x, 0),
                          pad(x, {1, 1}),
                          interpolate(x, {.scale_factor = 2}),
                          conv_transpose2d(x, t({3, 2, 1, 1})),
                          prelu_term(x, x),
                          max_pool2d(x, {}),
                          avg_pool2d(x, {}),
                          adaptive_avg_pool2d(x, 1),
                          dropout(x, {})})
    CHECK_MESSAGE(zero_from_zeros(y), y.node()->op->name());
  for (const Tensor& y : {exp(x), log(x), pow(x, 0), clamp(x, 1, 2), hardtanh(x, {.min_val = 1, .max_val = 2}), x >= x,
                          pad(x, {1, 1}, 1), group_norm(x, 1, t({3}), t({3})), sigmoid(x), x / x, softmax(x),
                          log_softmax(x), batch_norm(x, t({3}), t({3}), mean3, var3, {.training = false})})
    CHECK_MESSAGE(!zero_from_zeros(y), y.node()->op->name());
}

TEST_CASE("FLOPs as thop 0.0.31 counts them") {
  Tensor mean3 = t({3}), var3 = t({3});
  const Tensor x = t({2, 3, 8, 8});
  Tracing on;
  CHECK(flops(conv2d(x, t({5, 3, 3, 3}), {}, {.padding = 1})) == 2 * 5 * 64 * 27);
  CHECK(flops(conv2d(x, t({5, 3, 3, 3}), t({5}), {.padding = 1})) == 2 * 5 * 64 * 28);
  CHECK(flops(conv2d(x, t({3, 1, 3, 3}), {}, {.padding = 1}, 3)) == 2 * 3 * 64 * 9);
  CHECK(flops(linear(t({2, 7}), t({4, 7}), t({4}))) == 2 * 4 * 8);
  CHECK(flops(batch_norm(x, t({3}), t({3}), mean3, var3, {.training = false})) == 2 * 2 * 3 * 64);
  CHECK(flops(avg_pool2d(x, {.kernel = 2})) == 2 * 3 * 16);
  CHECK(flops(adaptive_avg_pool2d(x, {2, 4})) == 2 * 3 * 8 * (4 * 2 + 1));
  CHECK(flops(leaky_relu(x)) == 2 * 3 * 64);
  for (const Tensor& y : {relu(x), relu6(x), max_pool2d(x, {.kernel = 2}), dropout(x, {}), flatten(x), x + x})
    CHECK(flops(y) == 0);
}

TEST_CASE("attributes carry PyTorch's names") {
  auto names = [](const Tensor& y) {
    std::string text(y.node()->op->name());
    for (const auto& [name, value] : y.node()->op->attributes()) text += " " + name;
    return text;
  };
  Tensor mean3 = t({3}), var3 = t({3});
  const Tensor x = t({2, 3, 8, 8});
  Tracing on;
  CHECK(names(conv2d(x, t({5, 3, 3, 3}))) == "conv2d stride padding dilation groups");
  CHECK(names(batch_norm(x, t({3}), t({3}), mean3, var3)) == "batch_norm training momentum eps relu");
  CHECK(names(max_pool2d(x, {})) == "max_pool2d kernel_size stride padding");
  CHECK(names(avg_pool2d(x, {})) == "avg_pool2d kernel_size stride padding count_include_pad");
  CHECK(names(adaptive_avg_pool2d(x, 1)) == "adaptive_avg_pool2d output_size");
  CHECK(names(hardtanh(x)) == "hardtanh min_val max_val");
  CHECK(names(relu6(x)) == "relu6 min_val max_val");
  CHECK(names(leaky_relu(x)) == "leaky_relu negative_slope");
  CHECK(names(silu(x)) == "silu");
  CHECK(names(cat({x, x})) == "cat dim");
  CHECK(names(flatten(x)) == "flatten start_dim");
  CHECK(names(mean(x)) == "mean dim keepdim");
  CHECK(names(softmax(x)) == "softmax dim");
  CHECK(names(linear(t({2, 3}), t({4, 3}))) == "linear");
}

TEST_CASE("errors say what came, what was expected and where") {
  Scope scope("layer2.0.conv1");
  const Tensor x = t({2, 48, 4, 4});
  Tensor mean3 = t({3}), var3 = t({3});
  const std::vector<std::pair<std::function<void()>, std::string>> table{
      {[&] {
         conv2d(x, t({8, 64, 3, 3}));
       },
       "[conv2d] input has 48 channels, weight expects 64"},
      {[&] {
         conv2d(x, t({8, 24, 3, 3}));
       },
       "[conv2d] input has 48 channels, weight expects 24"},  // not 2 groups that nobody asked for
      {[&] {
         conv2d(x, t({8, 24, 3, 3}), {}, {}, 4);
       },
       "[conv2d] input has 48 channels, weight expects 96 (4 groups of 24)"},
      {[&] {
         conv2d(x, t({7, 24, 3, 3}), {}, {}, 2);
       },
       "[conv2d] 7 filters do not divide into 2 groups"},
      {[&] {
         conv2d(x, t({8, 48, 3, 3}), {}, {}, 0);
       },
       "[conv2d] expected at least 1 group, got 0"},
      {[&] {
         conv2d(x, t({8, 48, 7, 1}));
       },
       "[conv2d] kernel 7x1 is larger than the padded input [2,48,4,4]"},
      {[&] {
         conv2d(x, t({8, 48, 3, 3}), t({7}));
       },
       "[conv2d] bias [7], weight makes 8 channels"},
      {[&] {
         conv2d(t({2, 3}), t({8, 48, 3, 3}));
       },
       "[conv2d] expected an input [N,C,H,W], got [2,3]"},
      {[&] {
         conv2d(x, t({8, 48, 3, 3}), {}, {.stride = 0});
       },
       "[conv2d] stride and dilation must be at least 1, padding at least 0"},
      {[&] { conv2d(x, {}); }, "[conv2d] operand 1 is absent"},
      {[&] {
         linear(t({2, 7}), t({4, 6}));
       },
       "[linear] input has 7 features, weight expects 6"},
      {[&] {
         linear(x, t({4, 6}));
       },
       "[linear] expected an input [N,I], got [2,48,4,4]"},
      {[&] {
         matmul(t({2, 3}), t({2, 3}));
       },
       "[matmul] shapes [2,3] and [2,3] do not meet"},
      {[&] { batch_norm(x, t({48}), t({47}), mean3, var3); }, "[batch_norm] input has 48 channels, bias is [47]"},
      {[&] {
         batch_norm(t({1, 3}), t({3}), t({3}), mean3, var3);
       },
       "[batch_norm] expected more than 1 value per channel when training, got [1,3]"},
      {[&] { max_pool2d(x, {.kernel = 5}); }, "[max_pool2d] kernel 5x5 is larger than the padded input [2,48,4,4]"},
      {[&] { max_pool2d(x, {.kernel = 2, .padding = 2}); },
       "[max_pool2d] padding must be at most half of the kernel, got 2x2 for 2x2"},
      {[&] { relu(Tensor::zeros({2}, DType::s64)); }, "[relu] operand 0 holds s64, expected f32"},
      {[&] { relu({}); }, "[relu] operand 0 is absent"},
      {[&] {
         add(t({2, 3}), t({2, 4}));
       },
       "[add] shapes [2,3] and [2,4] do not broadcast"},
      {[&] {
         cat({t({2, 3}), t({3, 3})});
       },
       "[cat] shapes [2,3] and [3,3] differ outside dimension 1"},
      {[&] {
         slice(t({2, 3}), 1, 2, 5);
       },
       "[slice] 2 to 5 of dimension 1 of [2,3]"},
      {[&] {
         reshape(t({2, 3}), {4});
       },
       "[reshape] of [2,3] to [4]: the sizes differ"},
      {[&] {
         transpose(t({2, 3}), 0, 2);
       },
       "[transpose] dimension 2 of a tensor of rank 2"},
      {[&] { dropout(x, {.p = 1}); }, "[dropout] p must be in [0, 1), got 1"},
      {[&] {
         nll_loss(t({2, 3}), Tensor::full({2}, 3, DType::s64));
       },
       "[nll_loss] target 3 of image 0 is not one of 3 classes"},
      {[&] {
         nll_loss(t({2, 3}), t({2}));
       },
       "[nll_loss] targets hold f32, expected s64"},
      {[&] {
         nll_loss(t({2, 3}), Tensor::zeros({3}, DType::s64));
       },
       "[nll_loss] expected 2 targets for [2,3], got [3]"},
      {[&] {
         mse_loss(t({2, 3}), t({3}));
       },
       "[mse_loss] values [2,3], targets [3]"},
      {[&] {
         reshape(t({2, 3}), {-1, 4});
       },
       "[reshape] of [2,3] to [-1,4]: the sizes differ"},
      {[&] {
         reshape(t({2, 3}), {-1, -1});
       },
       "[reshape] more than one size is -1"},
      {[&] {
         permute(t({2, 3}), {0, 0});
       },
       "[permute] expected each of 2 dimensions once"},
      {[&] {
         split(t({2, 3}), {1, 1}, 1);
       },
       "[split] the parts sum to 2, dimension 1 has 3"},
      {[&] {
         stack({t({2, 3}), t({2, 4})});
       },
       "[stack] shapes [2,3] and [2,4] differ"},
      {[&] {
         gather(t({2, 3}), 1, t({2, 1}));
       },
       "[gather] the index holds f32, expected s64"},
      {[&] {
         gather(t({2, 3}), 1, Tensor::zeros({3, 1}, DType::s64));
       },
       "[gather] an index [3,1] for [2,3] along dimension 1"},
      {[&] {
         index_select(t({2, 3}), 1, Tensor::full({1}, 3, DType::s64));
       },
       "[index_select] index 3 is not one of 3 places"},
      {[&] {
         amax(t({2, 0}), {1});
       },
       "[amax] of no elements: [2,0]"},
      {[&] {
         cross_entropy(t({2, 3}), Tensor::zeros({2}, DType::s64), 0, t({4}));
       },
       "[nll_loss] weights [4] for 3 classes"},
      {[&] {
         conv_transpose2d(x, t({64, 8, 3, 3}));
       },
       "[conv_transpose2d] input has 48 channels, weight expects 64"},
      {[&] {
         conv_transpose2d(x, t({48, 8, 1, 1}), {}, {.window = {.padding = 2}});
       },
       "[conv_transpose2d] an input [2,48,4,4] leaves no output under a padding of 2x2"},
      {[&] { group_norm(x, 5); }, "[group_norm] 48 channels do not divide into 5 groups"},
      {[&] { layer_norm(x, {5}); }, "[layer_norm] of [5], the input is [2,48,4,4]"},
      {[&] { pad(x, {1}); }, "[pad] 1 numbers for [2,48,4,4], expected two for each dimension from the last on"},
      {[&] { interpolate(x, {}); }, "[interpolate] expected a size or a scale_factor, got neither"},
      {[&] { prelu(x, t({3})); },
       "[prelu] expected a weight [1] or one for each of dimension 1 of [2,48,4,4], got [3]"},
  };
  for (const auto& [f, expected] : table) CHECK(message(f) == expected + " (in layer2.0.conv1)");
}

TEST_CASE("an op says where zeros stay zeros, operand by operand") {
  const auto zero = [](const Tensor& y, std::vector<Slice> states) { return y.node()->op->zero(states); };
  constexpr Slice absent = Slice::absent, elsewhere = Slice::elsewhere, live = Slice::live, none = Slice::zero;
  Tensor mean3 = t({3}), var3 = t({3});
  Tracing on;
  const Tensor x = t({2, 3, 4, 4}), conv = conv2d(x, t({5, 3, 1, 1}), t({5}));
  CHECK(zero(conv, {live, none, none}));  // a masked filter and its bias
  CHECK(zero(conv, {live, none, absent}));
  CHECK(zero(conv, {none, live, none}));
  CHECK_FALSE(zero(conv, {live, none, live}));  // the bias is what comes out
  CHECK_FALSE(zero(conv, {live, live, none}));
  CHECK(zero(x * x, {none, live}));
  CHECK(zero(x / x, {none, live}));
  CHECK_FALSE(zero(x / x, {live, none}));
  CHECK_FALSE(zero(x + x, {none, live}));
  CHECK_FALSE(zero(x + t({3, 1, 1}), {none, elsewhere}));  // what has no slice there may still add something
  const Tensor norm = batch_norm(x, t({3}), t({3}), mean3, var3, {.training = false});
  CHECK(zero(norm, {live, none, none, live, live}));
  CHECK_FALSE(zero(norm, {none, live, live, none, live}));
  CHECK_FALSE(zero(norm, {live, none, live, live, live}));  // the shift is what comes out
  CHECK(zero(cat({x, x}), {none, elsewhere}));
  CHECK_FALSE(zero(cat({x, x}), {live, elsewhere}));
}
