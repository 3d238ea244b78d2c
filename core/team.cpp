// Claiming, sleeping and waking. The claims are relaxed on purpose: the thread sanitizer then sees two chunks that meet
// in one place as the race that they are, whichever thread was first.
#include <espalier/core/team.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>

#include <chrono>
#include <system_error>
#include <thread>

namespace espalier {

namespace {

// How long a helper looks out for the next loop, and a caller for its last helpers, before they let others run: longer
// than most gaps between the loops of a network, short beside the time that a busy neighbour gets in one piece. Once a
// caller had to sleep there is such a neighbour, and for some loops the team is less patient.
constexpr std::chrono::microseconds patience{50}, less_patience{20};
constexpr int remembered = 4096;  // loops; with 256 ResNet-56 took 2.0 instead of 1.8 times its idle time beside one

thread_local bool in_chunk = false;

template <class Condition>
bool watch(bool busy_neighbour, Condition condition) {
  const auto end = std::chrono::steady_clock::now() + (busy_neighbour ? less_patience : patience);
  do {
    for (int i = 0; i < 16; ++i) {
      if (condition()) return true;
      _mm_pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

std::atomic<Team*> current{nullptr};

}  // namespace

Team& Team::everyone() {
  static const bool made = [] {  // never deleted: threads may be at work while the process ends
    current = new Team;
    pthread_atfork(nullptr, nullptr, [] { current = new Team; });
    return true;
  }();
  (void)made;
  return *current.load(std::memory_order_relaxed);
}

bool Team::inside() { return in_chunk; }

void Team::grow(int helpers) {
  if (members_.load(std::memory_order_relaxed) >= helpers) return;
  std::lock_guard lock(guard_);
  try {
    for (; members_ < helpers; ++members_) std::thread(&Team::help, this).detach();
  } catch (const std::system_error&) {  // no more threads to be had: those that there are do the work
  }
}

void Team::work_on(Loop& loop) {
  in_chunk = true;
  try {
    for (int64_t begin = loop.next.load(std::memory_order_relaxed); begin < loop.n;) {
      const int64_t size = std::clamp((loop.n - begin) / loop.shares, loop.grain, loop.most);
      const int64_t end = std::min(loop.n, begin + size);
      if (!loop.next.compare_exchange_weak(begin, end, std::memory_order_relaxed)) continue;
      loop.f(loop.context, begin, end);
      begin = loop.next.load(std::memory_order_relaxed);
    }
  } catch (...) {
    loop.next.store(loop.n, std::memory_order_relaxed);  // nobody needs to begin the rest
    std::lock_guard lock(guard_);
    if (!loop.error) loop.error = std::current_exception();
  }
  in_chunk = false;
}

void Team::run(Loop& loop) {
  int wanted = 0;
  {
    std::lock_guard lock(guard_);
    loop.after = first_;
    if (first_) first_->before = &loop;
    first_ = &loop;
    if (loop.wake) wanted = std::min(loop.room, sleeping_);
  }
  count_.fetch_add(1, std::memory_order_release);
  for (int i = 0; i < wanted; ++i) opened_.notify_one();
  work_on(loop);
  {
    std::lock_guard lock(guard_);
    (loop.before ? loop.before->after : first_) = loop.after;
    if (loop.after) loop.after->before = loop.before;
  }
  const auto alone = [&] { return loop.helpers.load(std::memory_order_acquire) == 0; };
  const int disturbed = disturbed_.load(std::memory_order_relaxed);
  if (watch(disturbed > 0, alone)) {
    if (disturbed > 0) disturbed_.store(disturbed - 1, std::memory_order_relaxed);
  } else {  // beside a busy neighbour the helper may be queued on this very processor: yield it
    disturbed_.store(remembered, std::memory_order_relaxed);
    for (int i = 0; i < 2 && !alone(); ++i) sched_yield();
    std::unique_lock lock(guard_);
    ++waiting_;
    left_.wait(lock, alone);
    --waiting_;
  }
  if (loop.error) std::rethrow_exception(loop.error);
}

// A loop that a helper may join; under the lock.
Team::Loop* Team::open_loop() const {
  for (Loop* loop = first_; loop; loop = loop->after)
    if (loop->room > 0 && loop->next.load(std::memory_order_relaxed) < loop->n) return loop;
  return nullptr;
}

void Team::help() {
  std::unique_lock lock(guard_);
  bool kept_waiting = false;  // the caller slept until this helper's chunk was done: others want our processors
  for (;;) {
    Loop* loop = open_loop();
    if (!loop) {
      const uint64_t seen = count_.load(std::memory_order_relaxed);
      lock.unlock();
      const bool more = !kept_waiting && watch(disturbed_.load(std::memory_order_relaxed) > 0,
                                               [&] { return count_.load(std::memory_order_acquire) != seen; });
      lock.lock();
      if (more) continue;
      ++sleeping_;
      opened_.wait(lock, [&] { return open_loop() != nullptr; });
      --sleeping_;
      continue;
    }
    --loop->room;
    loop->helpers.fetch_add(1, std::memory_order_relaxed);
    lock.unlock();
    work_on(*loop);
    lock.lock();
    loop->helpers.fetch_sub(1, std::memory_order_release);  // the caller may return: the loop is gone
    kept_waiting = waiting_ > 0;
    if (kept_waiting) left_.notify_all();
  }
}

}  // namespace espalier
