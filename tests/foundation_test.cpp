// What everything stands on, where it used to be wrong without a word: versions and views, gradients that are nobody
// else's, sizes that cannot be, memory that is bounded, chains that are long.
#include <doctest/doctest.h>
#include <espalier/core/graph.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/parallel.h>

#include "pattern.h"
#include "refusal.h"

using namespace espalier;

namespace {

template <class F>
std::string refused(F f) {
  return refusal(f, ErrorKind::other);
}

}  // namespace

TEST_CASE("a tape refuses operands that were written after they were saved") {
  Tensor x = values({2, 3}), w = values({4, 3}, 1);
  x.set_requires_grad();
  w.set_requires_grad();
  const Tensor first = sum(linear(x, w)), second = sum(linear(x, w));
  backward(first);
  run::add_scaled({}, -0.1f, w.grad(), w.out());  // an optimiser's step
  Scope layer("fc");
  CHECK_THROWS_WITH_AS(
      backward(second),
      "[linear] a tensor of shape [4,3] that was saved for the backward pass has been written since: an "
      "optimiser's step or a write in place came between",
      Error);

  Tensor mean = Tensor::zeros({3}), var = Tensor::ones({3}), gamma = Tensor::ones({3}), beta = Tensor::zeros({3});
  Tensor image = values({4, 3});
  image.set_requires_grad();
  const Tensor loss = sum(batch_norm(image, gamma, beta, mean, var, {.training = false}));
  batch_norm(values({4, 3}, 5), gamma, beta, mean, var, {.training = true});  // moves the running statistics
  CHECK_THROWS_AS(backward(loss), Error);
}

TEST_CASE("the message of a stale tape names the layer that ran the op") {
  Tensor x = values({2, 3}), w = values({4, 3}, 1);
  x.set_requires_grad();
  const Tensor loss = [&] {
    Scope layer("classifier.0");
    return sum(linear(x, w));
  }();
  w.mutable_data()[0] = 7;
  try {
    backward(loss);
    FAIL("no error");
  } catch (const Error& e) { CHECK(std::string(e.what()).ends_with("(in classifier.0)")); }
}

TEST_CASE("writing one slice of a bucket leaves tapes and packs of the others alone") {
  Tensor bucket = Tensor::zeros({40});
  Tensor a = bucket.view_as({4, 3}, 0), b = bucket.view_as({5, 4}, 12);
  a.copy_from(values({4, 3}));
  b.copy_from(values({5, 4}, 3));
  CHECK(bucket.to_vector()[12] == b.to_vector()[0]);
  Tensor x = values({2, 3});
  x.set_requires_grad();
  const Tensor loss = sum(linear(x, a));
  const uint64_t before = a.version();
  b.copy_from(values({5, 4}, 9));
  CHECK(a.version() == before);
  CHECK(b.version() > before);
  CHECK(bucket.version() == b.version());
  backward(loss);
  CHECK(x.grad().defined());
  const Tensor again = sum(linear(x, a));
  bucket.narrow(2, 3).out();  // overlaps a
  CHECK_THROWS_AS(backward(again), Error);
  bucket.out();  // the whole: everything in it is written
  CHECK(b.version() == bucket.version());
}

TEST_CASE("ranges of a storage remember their last write, however they overlap") {
  Storage s(100, {});
  const auto version = [&](size_t at, size_t n) { return s.last_write(at, n).version; };
  s.written(10, 20);
  s.written(25, 10);
  CHECK(version(0, 10) == 0);
  CHECK(version(10, 15) == 1);
  CHECK(version(24, 2) == 2);
  CHECK(version(30, 5) == 2);
  CHECK(version(35, 65) == 0);
  s.written(12, 2, true);
  CHECK(version(10, 2) == 1);
  CHECK(version(14, 5) == 1);
  CHECK(s.last_write(11, 2).handed_out);
  CHECK_FALSE(s.last_write(14, 2).handed_out);
  s.written(0, 100);
  CHECK(version(12, 2) == 4);
  CHECK_FALSE(s.last_write(12, 2).handed_out);
}

TEST_CASE("views share bytes, and what lies beyond them is refused") {
  const Tensor batch = values({4, 2, 3, 3});
  const Tensor part = batch.narrow(1, 2);
  CHECK(part.shape() == Shape{2, 2, 3, 3});
  CHECK(part.data() == batch.data() + 18);
  CHECK(part.to_vector() == slice(batch, 0, 1, 3).to_vector());
  CHECK_FALSE(part.same_memory(batch.narrow(0, 2)));
  CHECK(part.same_memory(batch.narrow(1, 2)));
  CHECK(refused([&] { batch.narrow(3, 2); }) == "[narrow] 2 from 3 of [4,2,3,3]");
  CHECK(refused([&] { batch.view_as({9}, 64); }) == "[view] of [4,2,3,3] as [9] from element 64: too few elements");
  CHECK(refused([&] { batch.view_as({9}); }) == "[view] of [4,2,3,3] as [9]: the sizes differ");
  // An op that can be a view is one, and its gradient is that of the copy it stands for.
  Tensor x = values({4, 6});
  x.set_requires_grad();
  const Tensor rows = slice(x, 0, 1, 3), flat = reshape(rows, {12});
  CHECK(flat.storage() == x.storage());
  backward(sum(flat * flat));
  for (int64_t i = 0; i < 24; ++i) CHECK(x.grad().data()[i] == (i >= 6 && i < 18 ? 2 * x.data()[i] : 0));
}

TEST_CASE("packed weights: pointers given away are not trusted, and copies go with their weights") {
  Tensor x = values({8, 64}), w = values({32, 64}, 2);
  const auto run = [&] { return linear(x, w).to_vector(); };
  const size_t before = pool_use({}).live;
  const auto first = run();
  run();
  CHECK(pool_use({}).live > before);  // kept from the second time on
  float* pointer = w.mutable_data();
  pointer[3] = 5;
  const auto second = run();
  CHECK(second != first);
  run();            // a second time: a copy would be kept from here on
  pointer[3] = -5;  // a write that nobody is told of
  CHECK(run() != second);
  pointer[3] = 5;
  CHECK(run() == second);
  w.copy_from(values({32, 64}, 2));
  CHECK(run() == first);
  run();
  w = {};
  CHECK(pool_use({}).live < before);
}

TEST_CASE("no two leaves' gradients share memory") {
  Tensor a = values({3}), b = values({3}, 1);
  a.set_requires_grad();
  b.set_requires_grad();
  backward(sum(a + b));
  a.grad().mutable_data()[0] = 42;
  CHECK(b.grad().to_vector() == std::vector<float>(3, 1));
  Tensor seed = Tensor::ones({3});
  Tensor c = values({3});
  c.set_requires_grad();
  backward(reshape(c, {3}), seed);
  c.grad().mutable_data()[0] = 42;
  CHECK(seed.to_vector() == std::vector<float>(3, 1));
  CHECK(refused([&] { a.set_grad(Tensor::ones({4})); }) == "[grad] f32[4] for a tensor f32[3]");
  CHECK(refused([&] { backward(a + b, Tensor::ones({4})); }) == "[backward] the seed is f32[4], the loss f32[3]");
}

TEST_CASE("what cannot be is refused in one line, not by a signal") {
  Tensor none;
  CHECK(refused([&] { none.item(); }) == "[item] of an undefined tensor");
  CHECK(refused([&] { none.mutable_data(); }) == "[values] of an undefined tensor");
  CHECK(refused([&] { none.copy_from(Tensor::ones({1})); }) == "[copy] of an undefined tensor");
  CHECK(refused([&] { Tensor::ones({1}).copy_from(none); }) == "[copy] of an undefined tensor");
  const Tensor t = Tensor::ones({2, 3});
  CHECK(refused([&] { t.dim(7); }) == "[shape] dimension 7 of a shape of rank 2");
  CHECK(refused([&] { t.dim(-3); }) == "[shape] dimension -3 of a shape of rank 2");
  constexpr int64_t large = int64_t(1) << 31;
  CHECK(refused([&] { Tensor::zeros({large, large}); }).starts_with("[tensor] f32[2147483648,2147483648] has more"));
  CHECK(refused([&] {
          Tensor::zeros({large, large, large});
        }).starts_with("[shape] [2147483648,2147483648,2147483648]"));
  CHECK(Shape{large, large, large, 0}.numel() == 0);
  CHECK(refused([&] { Tensor::zeros({large, large / 4}); }).starts_with("[memory] cpu has no"));
  Tensor w = Tensor::ones({3});
  w.set_requires_grad();
  CHECK(refused([&] { freeze(w * w, {w}, {}); }) ==
        "[trace] the output was not recorded for a trace; run the model under Tracing");
}

TEST_CASE("a chain of any length is released without recursion") {
  Tensor x = Tensor::ones({1});
  x.set_requires_grad();
  Tensor y = x;
  for (int i = 0; i < 200000; ++i) y = y + x;
  y = {};
  CHECK(x.node().use_count() == 1);
}

TEST_CASE("the pool keeps what a steady step needs, and no more") {
  const Device cpu{};
  empty_pool(cpu);
  constexpr size_t mb = size_t(1) << 20;
  for (int64_t i = 1; i <= 60; ++i) Tensor::empty({int64_t(mb) / 4 * i});  // one after the other, 1 to 60 MB
  const PoolUse use = pool_use(cpu);
  CHECK(use.cached <= use.peak + use.peak / 2 + 32 * mb);
  CHECK(use.cached < 200 * mb);
  set_cache_limit(cpu, 5 * mb);
  CHECK(pool_use(cpu).cached <= 5 * mb);
  { const Tensor a = Tensor::empty({int64_t(mb)}), b = Tensor::empty({int64_t(mb) / 2}); }
  CHECK(pool_use(cpu).cached <= 5 * mb);
  set_cache_limit(cpu, std::nullopt);
  // A loop that takes the same blocks every time asks the system for none after the first rounds.
  uint64_t blocks = 0;
  for (int round = 0; round < 6; ++round) {
    std::vector<Tensor> live;
    for (int64_t i = 1; i < 30; ++i) live.push_back(Tensor::empty({100000 * i}));
    if (round == 2) blocks = pool_use(cpu).blocks;
  }
  CHECK(pool_use(cpu).blocks == blocks);
}

TEST_CASE("a graph computes in place where an op allows it and nobody looks") {
  const Tensor x = values({2, 3, 4, 4}), w = values({3, 3, 1, 1}, 2);
  const auto net = [&](const Tensor& in) {
    const Tensor y = relu(conv2d(in, w) + in);
    return y * sigmoid(relu6(y) + y) + reshape(flatten(y), y.shape());
  };
  const Graph graph = [&] {
    Tracing on;
    return freeze(net(x), {x}, {{"w", w}});
  }();
  const auto before = x.to_vector();
  NoGrad no_grad;
  const auto want = net(x).to_vector();
  CHECK(graph({x}).to_vector() == want);
  CHECK(x.to_vector() == before);                  // the caller's input is never computed over
  const auto seen_twice = [&](const Tensor& in) {  // the sum dies at relu, but its view is still to be read
    const Tensor y = in + in, view = reshape(y, {12, 4});
    return view + reshape(relu(y), view.shape());
  };
  const Tensor flat = values({6, 8});
  const Graph with_view = [&] {
    Tracing on;
    return freeze(seen_twice(flat), {flat}, {});
  }();
  CHECK(with_view({flat}).to_vector() == seen_twice(flat).to_vector());
  reset_pool_peak({});
  const size_t live = pool_use({}).live;
  const Tensor big = values({64, 3, 16, 16});
  const Graph chain = [&] {
    Tracing on;
    return freeze(relu(tanh(relu(tanh(relu(big + big))))), {big}, {});
  }();
  reset_pool_peak({});
  const size_t base = pool_use({}).live;
  const Tensor y = chain({big});
  CHECK(pool_use({}).peak - base <= big.bytes() + 4096);  // one buffer for six operations
  CHECK(live <= base);
  CHECK(big.to_vector() == values(big.shape()).to_vector());
}

TEST_CASE("bf16 passes through the rule of the ops that compute in it, and others refuse it") {
  const std::vector<float> v{-1.5f, 0.25f, 3, -0.125f};
  Tensor x = Tensor::from(v, {4});
  x.set_requires_grad();
  for (const Device device : {Device{}, Device{Device::emulated, 0}}) {
    Tensor at = Tensor::from(v, {4}).to(device);
    at.set_requires_grad();
    const Tensor half = cast(at, DType::bf16), y = relu(half);
    CHECK(y.dtype() == DType::bf16);
    CHECK(cast(y, DType::f32).to_vector() == std::vector<float>{0, 0.25f, 3, 0});
    backward(sum(cast(relu(half), DType::f32)));
    CHECK(at.grad().dtype() == DType::f32);
    CHECK(at.grad().to_vector() == std::vector<float>{0, 1, 1, 0});
    CHECK(cast(tanh(half), DType::f32).to_vector()[1] == doctest::Approx(std::tanh(0.25f)).epsilon(0.01));
  }
  CHECK(refused([&] { softmax(cast(values({2, 2}), DType::bf16)); }) == "[softmax] operand 0 holds bf16, expected f32");
  CHECK(cast(Tensor::from(std::vector<float>{2.5f, -300}, {2}), DType::s8).to_vector<int8_t>() ==
        std::vector<int8_t>{2, -128});
}
