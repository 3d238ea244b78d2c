// Laws of quantized networks: exact() is the meaning, and the engine gives its codes - every code of every tensor - on
// every instruction set, at any number of threads, at any split of the batch, and on the emulated column; folding batch
// norms and lowering change none. That exact() itself means what the float graph says is checked where floats are
// exact, and step by step elsewhere.
#include <doctest/doctest.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/quantize/exact.h>
#include <espalier/core/cpu/isa.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/quantized.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#include "quantized_net.h"
#include "random_net.h"
#include "refusal.h"

using namespace espalier;
using quantized_net::fake_quantized;
using random_net::Draw;
using random_net::Net;
using Codes = std::vector<std::pair<std::string, Tensor>>;

namespace {

std::atomic<int64_t> allocations{0};

}  // namespace

// Every allocation of this program is counted. Not inlined, lest g++ see malloc's memory freed where it saw new.
[[gnu::noinline]] void* operator new(size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(bytes ? bytes : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t bytes, const std::nothrow_t&) noexcept {  // the sanitizer has its own
  allocations.fetch_add(1, std::memory_order_relaxed);
  return std::malloc(bytes ? bytes : 1);
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, size_t) noexcept { std::free(p); }

namespace {

// A gate takes a few; ESPALIER_NETWORKS=200 is the study.
const uint64_t networks = [] {
  const char* n = std::getenv("ESPALIER_NETWORKS");
  return n ? std::strtoull(n, nullptr, 10) : 20;
}();

bool same_bytes(const Tensor& a, const Tensor& b) {
  const Tensor p = a.to(Device{}), q = b.to(Device{});
  return p.shape() == q.shape() && p.dtype() == q.dtype() && std::memcmp(p.in().data, q.in().data, p.bytes()) == 0;
}

int64_t check_codes(const Codes& got, const Codes& expected, const std::string& where) {
  INFO(where);
  REQUIRE(got.size() == expected.size());
  int64_t all = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    INFO(expected[i].first);
    CHECK(got[i].first == expected[i].first);
    CHECK(same_bytes(got[i].second, expected[i].second));
    all += expected[i].second.numel();
  }
  return all;
}

std::vector<cpu::Isa> instruction_sets() {
  std::vector<cpu::Isa> all{cpu::Isa::avx2};
  if (cpu::has(cpu::Isa::vnni)) all.push_back(cpu::Isa::vnni);
  return all;
}

struct Forced {  // for as long as it lives
  Forced(std::optional<cpu::Isa> isa, int threads) {
    cpu::set_isa(isa);
    set_num_threads(threads);
  }
  ~Forced() {
    cpu::set_isa(std::nullopt);
    set_num_threads(before);
  }
  Forced(const Forced&) = delete;
  const int before = num_threads();
};

// Everything that must agree on this graph; how many codes did.
int64_t check_laws(const Graph& graph, const Tensor& x, bool emulate = true) {
  const Exact meaning = exact(graph, {x});
  int64_t codes = 0;
  const Engine engine(graph);
  for (const cpu::Isa isa : instruction_sets())
    for (const int threads : {1, 2, 3, 8}) {
      const Forced forced(isa, threads);
      const std::string where = std::string(isa == cpu::Isa::vnni ? "vnni" : "avx2") + ", " + std::to_string(threads);
      codes = check_codes(engine.codes({x}), meaning.codes, where);
      INFO(where);
      CHECK(same_bytes(engine(x), meaning.output));
    }
  for (int64_t at = 0; at < x.dim(0); at += 2) {  // batches of two and what is left
    const int64_t n = std::min<int64_t>(2, x.dim(0) - at);
    CHECK(same_bytes(engine(x.narrow(at, n)), meaning.output.narrow(at, n)));
  }
  CHECK(same_bytes(lower(graph)({x}), meaning.output));
  const Graph folded = fold_norm(graph);
  const Exact again = exact(folded, {x});
  check_codes(again.codes, meaning.codes, "norms folded");
  CHECK(same_bytes(again.output, meaning.output));
  std::vector<Device> devices;
  if (emulate) devices.push_back({Device::emulated, 0});
  if (cuda_column() && cuda_device_count() > 0) devices.push_back({Device::cuda, 0});
  for (const Device device : devices) {
    const Engine there(graph, device);
    check_codes(there.codes({x.to(device)}), meaning.codes, name_of(device));
    // A softmax behind the last layer is a function of real numbers, where columns may round differently.
    const Graph& g = there.graph();
    if (g.values[size_t(g.output)].op->name().find("softmax") == std::string::npos)
      CHECK(same_bytes(there(x.to(device)), meaning.output));
  }
  return codes;
}

bool in_integers(const Graph& graph, const Tensor& x) {
  try {
    exact(graph, {x});
  } catch (const Error& e) {
    REQUIRE(e.kind() == ErrorKind::data);
    REQUIRE(std::string(e.what()).find("[exact]") == 0);
    return false;
  }
  return true;
}

quantized_net::Options any_options(uint64_t seed) {
  Draw d{seed + 500};
  quantized_net::Options o;
  o.weight_bits = d.chance(30) ? int(d.between(2, 7)) : 8;
  o.activation_bits = d.chance(20) ? int(d.between(2, 7)) : 8;
  o.affine_weights = d.chance(30);
  o.squeeze = d.chance(40) ? 0.4f : 1.f;
  o.powers_of_two = d.chance(25);
  return o;
}

// Some channels of some batch norms scale by 0, or by almost nothing, or turn around.
void trouble(Net& net, uint64_t seed) {
  Draw d{seed + 900};
  for (auto& [name, p] : named_parameters(net))
    if (name.find("bn.weight") != std::string::npos) {
      std::vector<float> g = p->value().to_vector();
      for (float& v : g)
        if (d.chance(30)) v = d.chance(40) ? 0.f : d.chance(30) ? v * 1e-7f : -v;
      p->set(Tensor::from(g, p->value().shape()));
    }
}

}  // namespace

TEST_CASE("random networks: exact = engine everywhere, every code") {
  int64_t whole = 0, codes = 0;
  for (uint64_t seed = 0; whole < int64_t(networks) && seed < 20 * networks; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    trouble(net, seed);
    const Tensor x = net.image(5);
    const Graph graph = fake_quantized(trace(net, x), {x}, any_options(seed));
    if (!in_integers(graph, x)) continue;  // a gate, or an activation that no table can replace
    ++whole;
    codes += check_laws(graph, x);
  }
  MESSAGE(whole << " networks, " << codes << " codes");
  CHECK(whole == int64_t(networks));
}

TEST_CASE("bundled models: exact = engine everywhere, every code") {
#ifdef NDEBUG
  const std::vector<std::string> names{"lenet", "naive", "vgg11", "resnet20", "mobilenetv2"};
#else
  const std::vector<std::string> names{"naive", "resnet20"};  // unoptimised, the others take long
#endif
  for (const std::string& name : names) {
    CAPTURE(name);
    manual_seed(3);
    const auto model = make_model(name);
    const Shape& in = model_info(name).input;
    Draw d{5};
    const Tensor x = Net::values(d, {2, in[0], in[1], in[2]}, -1, 1);
    const Graph graph = fake_quantized(trace(*model, x), {x});
    MESSAGE(name, ": ", check_laws(graph, x, name != "vgg11"), " codes");
  }
}

namespace {

// Where sums are exact in float, so is the whole float graph: no tolerance to hide a bug in. (An average adds the zero
// point before it rounds, a float graph after: so theirs is 0, lest ties differ.)
struct Exactly : Module {
  Exactly()
      : conv1(3, 20, {.kernel = 3, .padding = 1, .bias = false}),
        depthwise(20, 20, {.kernel = 3, .stride = 2, .padding = 1, .groups = 20, .bias = false}),
        conv2(20, 20, {.kernel = 3, .padding = 1, .bias = false}),
        grouped(20, 34, {.kernel = 1, .groups = 2, .bias = false}),
        fc1(34 * 4, 9, {.bias = false}),
        fc2(9, 5, {.bias = false}) {}
  std::string_view type() const override { return "Exactly"; }
  void members(Members& m) override {
    m("conv1", conv1), m("depthwise", depthwise), m("conv2", conv2), m("grouped", grouped), m("fc1", fc1),
        m("fc2", fc2);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor a = relu(conv1(x)), b = relu6(depthwise(a));
    const Tensor c = relu(conv2(b) + b);
    return fc2(relu(fc1(flatten(avg_pool2d(max_pool2d(relu(grouped(c)), {.kernel = 2}), {.kernel = 2})))));
  }
  Conv2d conv1, depthwise, conv2, grouped;
  Linear fc1, fc2;
};

}  // namespace

namespace {

// A binarized network as its papers have it: the first layer reads numbers, the last one signs; a pooling of signs,
// channels that are no multiple of anything, a norm that turns channels around and one that forgets them.
struct Signs : Module {
  explicit Signs(int64_t channels = 37)
      : conv1(3, channels, {.kernel = 3, .padding = 1}),
        conv2(channels, 2 * channels, {.kernel = 3, .padding = 1, .bias = false}),
        conv3(2 * channels, channels, {.kernel = 3, .stride = 2, .padding = 1}),
        bn1(channels),
        bn2(2 * channels),
        bn3(channels),
        fc(channels * 4, 10) {}
  std::string_view type() const override { return "Signs"; }
  void members(Members& m) override {
    m("conv1", conv1), m("bn1", bn1), m("conv2", conv2), m("bn2", bn2), m("conv3", conv3), m("bn3", bn3), m("fc", fc);
  }
  Tensor forward(const Tensor& x) override {
    const Tensor a = binarize(hardtanh(bn1(conv1(x))));
    const Tensor b = binarize(hardtanh(bn2(conv2d(a, binarize(conv2.weight()), {}, conv2.window))));
    const Tensor c = max_pool2d(b, {.kernel = 2});
    const Tensor d = binarize(tanh(bn3(conv2d(c, binarize(conv3.weight()), conv3.bias(), conv3.window))));
    return linear(flatten(d), binarize(fc.weight()), fc.bias());
  }
  Conv2d conv1, conv2, conv3;
  BatchNorm2d bn1, bn2, bn3;
  Linear fc;
};

void vary(Signs& net, uint64_t seed) {
  Draw d{seed};
  for (auto& [name, p] : named_parameters(net))
    if (name.find("bn") != std::string::npos) {
      std::vector<float> v = p->value().to_vector();
      for (float& x : v)
        x = name.ends_with("bias") ? d.uniform(-1, 1)
            : d.chance(10)         ? 0.f
            : d.chance(30)         ? -0.7f
                                   : d.uniform(0.4f, 1.4f);
      p->set(Tensor::from(v, p->value().shape()));
    }
}

}  // namespace

TEST_CASE("networks of signs: exact = engine everywhere, which counts bits; the float graph says the same") {
  for (const uint64_t seed : {1, 2, 3}) {
    CAPTURE(seed);
    manual_seed(seed);
    Signs net(seed == 3 ? 64 : 37);
    vary(net, seed);
    Draw d{seed};
    const Tensor x = Net::values(d, {3, 3, 8, 8}, -1, 1);
    const Graph graph = fake_quantized(trace(net, x), {x}, {.fold = false});
    check_laws(graph, x);
    const Engine engine(graph);
    std::map<std::string, int> kernels;
    for (const GraphValue& v : engine.graph().values)
      if (v.op) ++kernels[std::string(v.op->name())];
    CHECK(kernels["bconv2d"] == 2);
    CHECK(kernels["blinear"] == 1);
    CHECK(kernels["qconv2d"] == 1);
    // Signs are where the float graph has them, but for sums that lie beside 0 by no more than their rounding.
    std::map<std::string, Tensor> codes;
    for (const auto& [name, t] : exact(graph, {x}).codes) codes[name] = t;
    int64_t all = 0, off = 0;
    graph.run({x}, [&](int i, Inputs operands) {
      const GraphValue& v = graph.values[size_t(i)];
      Tensor y = graph.compute(i, operands);
      if (v.op->name() != "binarize" || !codes.contains(v.name)) return y;
      const auto real = y.to_vector(), code = codes[v.name].to_vector();
      std::vector<float> as_exact;
      for (size_t k = 0; k < real.size(); ++k) {
        CHECK((code[k] == 0 || code[k] == 2));
        off += real[k] != code[k] - 1;
        as_exact.push_back(code[k] - 1);
      }
      all += int64_t(real.size());
      return Tensor::from(as_exact, v.shape);
    });
    CHECK(all > 5000);
    CHECK(off * 500 < all);
    // Without the quantizers of the first layer it stays float, and the rest counts all the same.
    const Graph open = trace(net, x);
    CHECK(refusal([&] { exact(open, {x}); }).find("its input is not quantized") != std::string::npos);
    const Engine floats_first(open);
    const Tensor y = floats_first(x), simulated = open({x});
    int64_t same = 0;  // but for the bias of the last layer, in whole steps of 1
    for (int64_t k = 0; k < y.numel(); ++k) same += std::abs(y.data()[k] - simulated.data()[k]) < 0.5001f;
    CHECK(same * 10 >= 9 * y.numel());
  }
}

TEST_CASE("DoReFa's weights: codes 2q - n of n = 2^bits - 1, exact = engine, up to 7 bits") {
  struct Coarse : Module {
    explicit Coarse(int b) : bits(b) {}
    std::string_view type() const override { return "Coarse"; }
    void members(Members& m) override { m("conv1", conv1), m("bn1", bn1), m("conv2", conv2), m("fc", fc); }
    Tensor weight(const Parameter& p) const { return bits ? dorefa(p(), bits) : binarize(p()); }
    Tensor forward(const Tensor& x) override {
      const Tensor a = relu(bn1(conv2d(x, weight(conv1.weight), {}, conv1.window)));
      const Tensor b = relu(conv2d(a, weight(conv2.weight), conv2.bias(), conv2.window));
      return linear(flatten(b), weight(fc.weight), fc.bias());
    }
    int bits;  // 0: signs
    Conv2d conv1{3, 18, {.kernel = 3, .padding = 1, .bias = false}}, conv2{18, 11, {.kernel = 3, .stride = 2}};
    BatchNorm2d bn1{18};
    Linear fc{11 * 9, 7};
  };
  for (int bits = 0; bits <= 8; ++bits) {
    CAPTURE(bits);
    manual_seed(6);
    Coarse net(bits);
    Draw d{9};
    const Tensor x = Net::values(d, {3, 3, 7, 7}, -1, 1);
    const Graph graph = fake_quantized(trace(net, x), {x}, {.fold = false});
    if (bits == 8) {  // 256 codes 2q - 255 need 9 bits
      CHECK(refusal([&] { exact(graph, {x}); }).find("need 9") != std::string::npos);
      CHECK(Engine(graph)(x).shape() == Shape{3, 7});
      continue;
    }
    check_laws(graph, x);
    const int n = (1 << std::max(bits, 1)) - 1;
    const Tensor value = net.weight(net.conv2.weight);
    const Engine engine(graph);
    for (const GraphValue& v : engine.graph().values)
      if (v.name.find("conv2") != std::string::npos && v.name.ends_with(".weight")) {
        CHECK(v.value.dtype() == (bits <= 3 ? DType::u8 : DType::s8));
        const Tensor codes = bits <= 3 ? unpack_weight(v.value, value.shape(), 4) : v.value;
        const auto code = codes.to_vector<int8_t>();
        const auto real = value.to_vector();
        for (size_t i = 0; i < code.size(); ++i) {
          CHECK((code[i] + n) % 2 == 0);
          CHECK(float(code[i]) / float(n) == doctest::Approx(real[i]).epsilon(1e-6));
        }
      }
  }
}

TEST_CASE("weights of few bits lie packed: half of int8's bytes at 4 bits, an eighth of them as signs") {
  manual_seed(4);
  const auto model = make_model("resnet20");
  Draw d{5};
  const Tensor x = Net::values(d, {2, 3, 32, 32}, -1, 1);
  const auto bytes_of_weights = [&](int bits) {
    const Graph g = lower(fake_quantized(trace(*model, x), {x}, {.weight_bits = bits}));
    size_t bytes = 0;
    for (const GraphValue& v : g.values)
      if (v.name.ends_with(".weight")) bytes += v.value.bytes();
    return bytes;
  };
  const size_t eight = bytes_of_weights(8), four = bytes_of_weights(4);
  CHECK(eight > 260000);
  CHECK(2 * four <= eight + 64);
  for (const int bits : {4, 1})
    for (const Shape& shape : {Shape{3, 5, 3, 3}, Shape{7, 13}, Shape{1, 1, 1, 1}}) {
      Tensor codes = Tensor::empty(shape, DType::s8);
      for (int64_t i = 0; i < codes.numel(); ++i)
        codes.mutable_data<int8_t>()[i] = int8_t(bits == 4 ? i * 7 % 16 - 8 : i * 5 % 3 ? 1 : -1);
      const Tensor packed = pack_weight(codes, bits);
      CHECK(packed.shape() == packed_shape(shape, bits));
      CHECK(same_bytes(unpack_weight(packed, shape, bits), codes));
    }
  CHECK_THROWS_AS(pack_weight(Tensor::full({1, 1}, 8, DType::s8), 4), Error);
  CHECK_THROWS_AS(pack_weight(Tensor::zeros({1, 1}, DType::s8), 1), Error);
  CHECK_THROWS_AS(unpack_weight(Tensor::zeros({1, 2}, DType::u8), {1, 2}, 4), Error);
}

TEST_CASE("with powers of two for scales the float graph gives the same bits, end to end") {
  for (const uint64_t seed : {1, 2, 3}) {
    manual_seed(seed);
    Exactly model;
    Draw d{seed};
    const Tensor x = Net::values(d, {3, 3, 16, 16}, -1, 1);
    const Graph graph = fake_quantized(trace(model, x), {x}, {.weight_bits = 6, .powers_of_two = true});
    const Exact meaning = exact(graph, {x});
    CHECK(same_bytes(graph({x}), meaning.output));
    check_laws(graph, x);
  }
}

TEST_CASE("from equal codes, the float simulation gives a code or lies beside a tie") {
  int64_t all = 0, off = 0;
  for (uint64_t seed = 0; seed < 12; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    const Tensor x = net.image(4);
    const Graph graph = fake_quantized(trace(net, x), {x});
    if (!in_integers(graph, x)) continue;
    std::map<std::string, Tensor> codes;
    for (const auto& [name, t] : exact(graph, {x}).codes) codes[name] = t;
    graph.run({x}, [&](int i, Inputs operands) {
      const GraphValue& v = graph.values[size_t(i)];
      if (v.op->name() != "fake_quant" || !codes.contains(v.name)) return graph.compute(i, operands);
      const float scale = float(operands[1].item()), zero = float(operands[2].item());
      const std::vector<float> real = operands[0].to_vector(), code = codes[v.name].to_vector();
      std::vector<float> as_exact;
      for (size_t k = 0; k < real.size(); ++k) {
        const double place = std::clamp(double(real[k]) / double(scale) + double(zero), 0., 255.);
        const double distance = std::abs(place - double(code[k]));
        CHECK(distance <= 0.5 + 0.05);  // a bias is rounded to half a step of the accumulator
        off += distance > 0.5;
        as_exact.push_back(scale * (code[k] - zero));
      }
      all += int64_t(real.size());
      return Tensor::from(as_exact, v.shape);
    });
  }
  MESSAGE(off << " of " << all << " codes lie beyond a tie");
  CHECK(off * 50 < all);
}

TEST_CASE("the engine allocates nothing but its result, plans one arena, and serves several threads") {
  manual_seed(1);
  const auto model = make_model("resnet20");
  Draw d{5};
  const Tensor x = Net::values(d, {4, 3, 32, 32}, -1, 1);
  const Graph graph = fake_quantized(trace(*model, x), {x});
  const Engine engine(graph);
  Tensor y = engine(x);
  const Tensor expected = y.clone();
  const std::vector<Tensor> inputs{x};
  {
    const Forced one(std::nullopt, 1);  // helpers' own memory comes when they first help
    engine.run(inputs, y);
    const int64_t before = allocations;
    const uint64_t blocks = pool_use(Device{}).live;
    engine.run(inputs, y);
    engine.run(inputs, y);
    CHECK(allocations - before == 0);
    CHECK(pool_use(Device{}).live == blocks);
  }
  CHECK(same_bytes(y, expected));

  // The largest pair of neighbours is 64 KB and 64 KB of codes per image; the sum of all is ten times that.
  int64_t all = 0;
  for (const auto& [name, t] : engine.codes({x})) all += t.numel();
  CHECK(engine.arena_bytes({x.shape()}) < size_t(all) / 4);

  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 6; ++i) {
        const int64_t n = 1 + (t + i) % 4;
        wrong += !same_bytes(engine(x.narrow(0, n)), expected.narrow(0, n));
      }
    });
  for (auto& t : threads) t.join();
  CHECK(wrong == 0);

  const auto report = engine.report({x}, 3);
  double share = 0;
  for (const auto& layer : report) {
    share += layer.share;
    CHECK(layer.why.empty());
  }
  CHECK(share == doctest::Approx(1));
}

TEST_CASE("the engine serves float graphs: norms folded, and what it was given stays as it was") {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    CAPTURE(seed);
    Net net(seed);
    const Tensor x = net.image(3), before = x.clone();
    const Graph graph = trace(net, x);
    const Engine engine(graph);
    const Tensor y = engine(x), expected = graph({x});
    for (int64_t i = 0; i < y.numel(); ++i) {
      const double e = double(expected.data()[i]);
      CHECK(std::abs(double(y.data()[i]) - e) <= 1e-4 * std::max(1., std::abs(e)));
    }
    CHECK(same_bytes(engine(x), y));
    CHECK(same_bytes(engine(x.narrow(1, 2)), y.narrow(1, 2)));
    CHECK(same_bytes(x, before));
  }
}

TEST_CASE("a layer without quantizers stays float, the engine says why, and exact refuses it") {
  struct Half : Module {
    Half() : a(3, 6, {.kernel = 3}), b(6, 6, {.kernel = 3}), c(6, 4, {.kernel = 1}) {}
    std::string_view type() const override { return "Half"; }
    void members(Members& m) override { m("a", a), m("b", b), m("c", c); }
    Tensor forward(const Tensor& x) override { return c(tanh(b(relu(a(x))))); }
    Conv2d a, b, c;
  };
  manual_seed(2);
  Half model;
  Draw d{1};
  const Tensor x = Net::values(d, {2, 3, 8, 8}, -1, 1);
  Graph graph = fake_quantized(trace(model, x), {x});
  check_laws(graph, x);
  // Without the quantizer before tanh it is a function of real numbers.
  const Graph open = rewrite(graph, [](Rewriter& to, int old) -> std::optional<int> {
    const GraphValue& v = to.from().values[size_t(old)];
    if (v.name == "b_quantized") return to.now(v.inputs[0]);
    return std::nullopt;
  });
  const std::string why = refusal([&] { exact(open, {x}); });
  CHECK(why.find("quantizes a float intermediate") != std::string::npos);
  const Engine engine(open);
  const Tensor y = engine(x), simulated = open({x});
  for (int64_t i = 0; i < y.numel(); ++i) CHECK(std::abs(y.data()[i] - simulated.data()[i]) < 0.05f);

  // Without its input's quantizer a layer is float.
  const Graph raw = rewrite(graph, [](Rewriter& to, int old) -> std::optional<int> {
    const GraphValue& v = to.from().values[size_t(old)];
    if (v.name == "input_quantized") return to.now(v.inputs[0]);
    return std::nullopt;
  });
  CHECK(refusal([&] { exact(raw, {x}); }).find("a is not in integers: its input is not quantized") !=
        std::string::npos);
  bool told = false;
  for (const auto& layer : Engine(raw).report({x}, 1)) told = told || layer.why == "its input is not quantized";
  CHECK(told);
}

TEST_CASE("what cannot be computed in integers is refused by name") {
  manual_seed(2);
  const auto model = make_model("naive");
  Draw d{1};
  Tensor x = Net::values(d, {1, 1, 28, 28}, -1, 1);
  const Graph graph = fake_quantized(trace(*model, x), {x});
  const Engine engine(graph);
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    Tensor y = x.clone();
    y.mutable_data()[100] = bad;
    CHECK(refusal([&] { exact(graph, {y}); }).find("1 of 784 values are not finite") != std::string::npos);
    CHECK(refusal([&] { engine(y); }).find("input: 1 of 784 values are not finite") != std::string::npos);
  }
  CHECK(refusal(
            [&] {
              engine(Tensor::zeros({1, 1, 28, 28}, DType::u8));
            },
            ErrorKind::other)
            .find("expected f32") != std::string::npos);

  // 255 · 127 · K passes 2^31 from K = 66313 on.
  const int64_t wide = 66400;
  const Tensor image = Tensor::ones({1, wide}), w = Tensor::ones({2, wide});
  const auto traced = [&] {
    Tracing on;
    return freeze(linear(image, w), {image}, {{"fc.weight", w}});
  }();
  CHECK(refusal([&] { exact(fake_quantized(traced, {image}), {image}); }).find("past the 2^31") != std::string::npos);
}
