// parallel_for as a promise: every index once, whoever comes or does not come to help; callers that share the helpers,
// exceptions, loops within loops, a thread count that changes, and a process that forks.
#include <doctest/doctest.h>
#include <espalier/core/error.h>
#include <espalier/core/ops/ops.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/models.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>
#include <vector>

using namespace espalier;

namespace {

struct Threads {  // so many, until the end of the scope
  explicit Threads(int n) : before(num_threads()) { set_num_threads(n); }
  ~Threads() { set_num_threads(before); }
  int before;
};

// Waits until it is true, for at most ten seconds.
template <class Condition>
bool comes_true(Condition condition) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  return condition();
}

Tensor waves(const Shape& shape) {
  std::vector<float> v(size_t(shape.numel()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = std::sin(float(i) * 0.37f);
  return Tensor::from(v, shape);
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector(), y = b.to_vector();
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

}  // namespace

TEST_CASE("every index is given out once, in ranges of at least a grain") {
  for (int threads = 1; threads <= 8; ++threads)
    for (const int64_t n : {0, 1, 7, 64, 1000, 4099})
      for (const int64_t grain : {0, 1, 3, 100, 5000}) {
        const Threads so_many(threads);
        std::vector<std::atomic<int>> seen(static_cast<size_t>(n));
        std::atomic<int> short_ranges{0};
        parallel_for(n, grain, [&](int64_t begin, int64_t end) {
          if (end - begin < std::min(n, grain) && end != n) ++short_ranges;
          for (int64_t i = begin; i < end; ++i) {
            ++seen[size_t(i)];
            if (i % 97 == 0) std::this_thread::sleep_for(std::chrono::microseconds(20));  // uneven work
          }
        });
        CAPTURE(threads);
        CAPTURE(n);
        CAPTURE(grain);
        CHECK(short_ranges == 0);
        CHECK(std::all_of(seen.begin(), seen.end(), [](int times) { return times == 1; }));
      }
}

TEST_CASE("a loop of few grains stays on the caller, and so does everything with one thread") {
  const auto me = std::this_thread::get_id();
  int calls = 0;
  const auto whole = [&](int64_t begin, int64_t end) {
    CHECK(std::this_thread::get_id() == me);
    calls += begin == 0 && end == 1000;
  };
  {
    const Threads eight(8);
    parallel_for(1000, 500, whole);
    parallel_for(1000, 2000, whole);
  }
  const Threads one(1);
  parallel_for(1000, 1, whole);
  CHECK(calls == 3);
}

TEST_CASE("two long indices are shared, even with a helper that sleeps") {
  const Threads two(2);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));  // nobody looks out for a loop any more
  std::atomic<int> begun{0};
  std::atomic<bool> met{true};
  parallel_for(2, 0, [&](int64_t begin, int64_t end) {
    CHECK(end - begin == 1);
    ++begun;
    if (!comes_true([&] { return begun == 2; })) met = false;
  });
  CHECK(met);
  CHECK(grain_for(10, 1000) == 100);
  CHECK(grain_for(1000, 1000) == 1);
  CHECK(grain_for(0, 1000) == 1);
  CHECK(grain_for(5000, 1000) == 0);
}

TEST_CASE("who is free claims the next chunk: a thread that is held up keeps only the chunk it holds") {
  const Threads two(2);
  std::atomic<int64_t> done{0};
  std::atomic<bool> others_did_the_rest{false};
  parallel_for(1000, 1, [&](int64_t begin, int64_t end) {
    if (begin == 0) others_did_the_rest = end < 250 && comes_true([&] { return done == 1000 - end; });
    done += end - begin;
  });
  CHECK(done == 1000);
  CHECK(others_did_the_rest);
}

TEST_CASE("a caller whose helpers do not come finishes alone") {
  const Threads eight(8);
  std::atomic<int> held{0};
  std::atomic<bool> release{false};
  std::thread other([&] {  // holds itself and all helpers that there are
    parallel_for(1000, 1, [&](int64_t, int64_t) {
      ++held;
      comes_true([&] { return release.load(); });
    });
  });
  REQUIRE(comes_true([&] { return held == 8; }));
  int64_t sum = 0;  // nobody else is free to add
  parallel_for(1000, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sum += i;
  });
  CHECK(sum == 999 * 1000 / 2);
  CHECK(held == 8);
  release = true;
  other.join();
}

TEST_CASE("what a chunk throws reaches its own caller, and the team goes on") {
  const Threads four(4);
  for (const int64_t bad : {0, 500, 999})
    for (int round = 0; round < 20; ++round) {
      std::atomic<int64_t> done{0};
      CHECK_THROWS_WITH_AS(parallel_for(1000, 1,
                                        [&](int64_t begin, int64_t end) {
                                          if (begin <= bad && bad < end) fail(ErrorKind::other, "[test] thrown");
                                          done += end - begin;
                                        }),
                           "[test] thrown", Error);
      CHECK(done < 1000);
      done = 0;
      parallel_for(1000, 1, [&](int64_t begin, int64_t end) { done += end - begin; });
      CHECK(done == 1000);
    }
}

TEST_CASE("a loop within a loop stays on its thread") {
  const Threads four(4);
  std::atomic<int> whole{0};
  parallel_for(64, 1, [&](int64_t begin, int64_t end) {
    const auto me = std::this_thread::get_id();
    for (int64_t i = begin; i < end; ++i)
      parallel_for(1000, 1, [&](int64_t b, int64_t e) {
        if (b == 0 && e == 1000 && std::this_thread::get_id() == me) ++whole;
      });
  });
  CHECK(whole == 64);
}

TEST_CASE("many callers at once, while the number of threads changes") {
  const Threads before(8);
  std::atomic<bool> wrong{false}, stop{false};
  std::thread changing([&] {
    for (int n = 1; !stop; n = n % 8 + 1) {
      set_num_threads(n);
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
  });
  std::vector<std::thread> callers;
  for (int c = 0; c < 6; ++c)
    callers.emplace_back([&, c] {
      std::vector<int> out(2000);
      for (int round = 1; round <= 200; ++round) {
        parallel_for(2000, 10, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) out[size_t(i)] += c + round;
        });
        const int expected = round * c + round * (round + 1) / 2;
        for (const int v : out) wrong = wrong || v != expected;
      }
    });
  for (auto& caller : callers) caller.join();
  stop = true;
  changing.join();
  CHECK_FALSE(wrong);
}

TEST_CASE("a model that several threads evaluate at once answers as it does alone") {
  const Threads four(4);
  const auto model = make_model("lenet");
  model->eval();
  const Tensor x = waves({8, 1, 28, 28});
  const auto answer = [&] {
    const NoGrad off;
    return (*model)(x);
  };
  const Tensor alone = answer();
  std::atomic<int> same{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 4; ++c)
    callers.emplace_back([&] {
      for (int i = 0; i < 5; ++i) same += same_bits(answer(), alone);
    });
  for (auto& caller : callers) caller.join();
  CHECK(same == 20);
}

#ifndef __SANITIZE_THREAD__  // which lets no forked process start a thread
TEST_CASE("a forked child computes, with helpers of its own") {
  const Threads two(2);
  const Tensor x = waves({16, 16, 16, 16}), w = waves({16, 16, 3, 3});
  const Tensor here = conv2d(x, w, {}, {.padding = 1});
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    alarm(20);  // a child that hangs is ended
    const bool same = same_bits(conv2d(x, w, {}, {.padding = 1}), here);
    std::atomic<bool> helped{false};
    parallel_for(100, 1, [&](int64_t begin, int64_t) {
      static const auto first = std::this_thread::get_id();
      helped = helped || std::this_thread::get_id() != first;
      if (begin == 0) comes_true([&] { return helped.load(); });
    });
    _exit(same && helped ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
#endif
