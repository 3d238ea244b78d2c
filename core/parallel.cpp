// The thread team: OpenMP's in release builds, our own of std::thread where OpenMP would blind the thread sanitizer.
// Both cut a loop into one contiguous range per thread.
#include <espalier/core/error.h>
#include <espalier/core/parallel.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#ifdef ESPALIER_OPENMP
#include <omp.h>
#endif

namespace espalier {

namespace {

// A container's CPU quota (cgroup v2: "max 100000" or "200000 100000"), rounded up; 0 when there is none.
int cgroup_quota() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  return std::max(1, int(std::stod(quota) / period + 0.999));
}

int usable_cpus() {
  cpu_set_t set;
  int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : int(std::thread::hardware_concurrency());
  if (const int quota = cgroup_quota()) n = std::min(n, quota);
  return std::max(n, 1);
}

std::atomic<int> threads{0};
thread_local bool inside = false;

struct Inside {
  Inside() { inside = true; }
  ~Inside() { inside = false; }
};

#ifndef ESPALIER_OPENMP
// Threads that wait for loops; one loop at a time. They live as long as the process. Starting and finishing have a lock
// each: were it one, a thread that starts late would be ordered after part(0), and a race between them go unseen.
class Team {
 public:
  // part(0..size-1), each once; part(0) on the calling thread. False if another thread's loop has the team.
  bool run(int size, const std::function<void(int)>& part) {
    std::unique_lock mine(busy, std::try_to_lock);
    if (!mine) return false;
    {
      std::lock_guard lock(starting);
      for (; members < size - 1; ++members) std::thread(&Team::member, this, members + 1, round).detach();
      left = members;  // nobody is at work who could read it
      job = &part, parts = size, ++round;
    }
    start.notify_all();
    part(0);
    std::unique_lock lock(finishing);
    finished.wait(lock, [&] { return left == 0; });
    return true;
  }

 private:
  void member(int i, uint64_t last) {
    for (;;) {
      const std::function<void(int)>* part = nullptr;
      {
        std::unique_lock lock(starting);
        start.wait(lock, [&] { return round != last; });
        last = round;
        if (i < parts) part = job;
      }
      if (part) (*part)(i);
      std::lock_guard lock(finishing);
      if (--left == 0) finished.notify_one();
    }
  }

  std::mutex busy, starting, finishing;
  std::condition_variable start, finished;
  const std::function<void(int)>* job = nullptr;
  int members = 0, parts = 0, left = 0;
  uint64_t round = 0;
};

Team& everyone() {
  static auto& team = *new Team;
  return team;
}
#endif

}  // namespace

int num_threads() {
  int n = threads.load(std::memory_order_relaxed);
  if (n == 0) {
    set_num_threads(usable_cpus());
    n = threads.load(std::memory_order_relaxed);
  }
  return n;
}

void set_num_threads(int n) {
  if (n < 1 || n > 1024) fail(ErrorKind::usage, "[threads] expected 1 to 1024, got ", n);
  threads.store(n, std::memory_order_relaxed);
#ifdef ESPALIER_OPENMP
  omp_set_dynamic(0);
  omp_set_num_threads(n);
#endif
}

#ifdef ESPALIER_OPENMP
OneThread::OneThread() : before(omp_get_max_threads()) { omp_set_num_threads(1); }
OneThread::~OneThread() { omp_set_num_threads(before); }
#else  // the thread sanitizer's tests set OMP_NUM_THREADS=1
OneThread::OneThread() = default;
OneThread::~OneThread() = default;
#endif

void parallel_for_raw(int64_t n, int64_t grain, RangeFunction f, void* context) {
  if (n <= 0) return;
  const int64_t most = (n + std::max<int64_t>(grain, 1) - 1) / std::max<int64_t>(grain, 1);
  const int team = int(std::min<int64_t>(inside ? 1 : num_threads(), most));
  if (team == 1) {
    f(context, 0, n);
    return;
  }
  std::exception_ptr error;
  std::mutex guard;
  auto part = [&](int i) {
    Inside mark;
    try {
      f(context, n * i / team, n * (i + 1) / team);
    } catch (...) {
      std::lock_guard lock(guard);
      if (!error) error = std::current_exception();
    }
  };
#ifdef ESPALIER_OPENMP
#pragma omp parallel for num_threads(team) schedule(static, 1)
  for (int i = 0; i < team; ++i) part(i);
#else
  if (!everyone().run(team, part))
    for (int i = 0; i < team; ++i) part(i);
#endif
  if (error) std::rethrow_exception(error);
}

}  // namespace espalier
