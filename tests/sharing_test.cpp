// One model, several threads: a promise of nn/module.h. Each thread's outputs have the bits that they have alone, and
// the thread sanitizer, under which this runs too, must find nothing.
#include <doctest/doctest.h>
#include <espalier/core/tape.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <atomic>
#include <cstring>
#include <thread>

#include "formula.h"

using namespace espalier;

namespace {

constexpr int threads = 4, rounds = 3;

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && std::memcmp(a.data(), b.data(), a.bytes()) == 0;
}

// f(i) on one thread per i, all let go at once.
template <class F>
void at_once(F f) {
  std::atomic<int> waiting = threads;
  std::vector<std::thread> team;
  for (int i = 0; i < threads; ++i)
    team.emplace_back([&, i] {
      for (--waiting; waiting > 0;) std::this_thread::yield();
      f(i);
    });
  for (std::thread& t : team) t.join();
}

}  // namespace

TEST_CASE("threads share a model in eval mode, from its very first call on") {
  for (const char* name : {"naive", "resnet20"}) {
    CAPTURE(name);
    const Shape in = model_info(name).input;
    const auto images = [&](int i) { return formula::batch(in, 2, uint32_t(i)).images; };
    manual_seed(3);
    const auto alone = make_model(name);
    manual_seed(3);
    const auto shared = make_model(name);
    alone->eval(), shared->eval();
    std::vector<Tensor> expected, got(threads * rounds);
    for (int i = 0; i < threads; ++i) {
      NoGrad no_grad;
      expected.push_back((*alone)(images(i)));
    }
    at_once([&](int i) {
      for (int r = 0; r < rounds; ++r) {
        EvalMode eval(*shared);  // as evaluate() does
        NoGrad no_grad;
        got[size_t(r * threads + i)] = (*shared)(images(i));
      }
    });
    for (int k = 0; k < threads * rounds; ++k) CHECK(same_bits(got[size_t(k)], expected[size_t(k % threads)]));
    for (auto& [path, m] : named_modules(*shared)) CHECK(m->path() == path);
  }
}

TEST_CASE("threads trace one model, and run what they traced") {
  const auto shared = make_model("naive");
  shared->eval();
  const Shape in = model_info("naive").input;
  std::vector<size_t> values(threads);
  std::vector<Tensor> outputs(threads);
  at_once([&](int i) {
    const Tensor x = formula::batch(in, 1, 5).images;
    const Graph graph = trace(*shared, x);
    values[size_t(i)] = graph.values.size();
    NoGrad no_grad;
    outputs[size_t(i)] = graph({x});
  });
  for (int i = 1; i < threads; ++i) {
    CHECK(values[size_t(i)] == values[0]);
    CHECK(same_bits(outputs[size_t(i)], outputs[0]));
  }
}
