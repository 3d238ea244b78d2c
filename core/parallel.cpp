// How many threads there are, and which loops are worth them.
#include <espalier/core/error.h>
#include <espalier/core/parallel.h>
#include <espalier/core/team.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <string>
#include <thread>

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
// In grains, of some 10 to 50 microseconds each. A helper that has just worked comes at once, one that sleeps does not.
constexpr int64_t worth_sharing = 3, worth_waking = 6, longest_chunk = 16;

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
}

void parallel_for_raw(int64_t n, int64_t grain, RangeFunction f, void* context) {
  if (n <= 0) return;
  const bool few_are_long = grain == 0;
  grain = std::max<int64_t>(grain, 1);
  const int64_t grains = n / grain, team = std::min<int64_t>(num_threads(), grains);
  if (team <= 1 || (grains < worth_sharing && !few_are_long) || Team::inside()) return f(context, 0, n);
  Team& everyone = Team::everyone();
  everyone.grow(int(team) - 1);
  Team::Loop loop{.n = n,
                  .grain = grain,
                  .shares = 2 * team,
                  .most = longest_chunk * grain,
                  .f = f,
                  .context = context,
                  .room = int(team) - 1,
                  .wake = few_are_long || grains >= worth_waking};
  everyone.run(loop);
}

}  // namespace espalier
