// parallel_for: the only way in which the library computes on more than one thread. A loop is cut into chunks that the
// caller and its helpers claim one by one, so that a helper which the system does not let run costs nothing but its
// help. What a loop computes must not depend on how it was cut: each index writes its own place, and sums run over
// chunks whose number is fixed by the problem. Then 1 and 8 threads give the same bits.
#pragma once
#include <espalier/core/api.h>

#include <cstdint>
#include <memory>
#include <type_traits>

namespace espalier {

ESPALIER_API int num_threads();            // default: the CPUs that affinity and cgroup leave to us
ESPALIER_API void set_num_threads(int n);  // n >= 1; throws usage

// What parallel_for_raw() calls for a range of the loop, with the context that it was given.
using RangeFunction = void (*)(void* context, int64_t begin, int64_t end);
// parallel_for() for a plain function.
ESPALIER_API void parallel_for_raw(int64_t n, int64_t grain, RangeFunction f, void* context);

// Calls f(begin, end) on disjoint ranges that cover 0..n, each at least `grain` long where n allows it; `grain` is how
// many indices take some 10 to 50 microseconds, and a loop of few grains stays on the caller. 0: one takes far longer,
// and two are worth sharing. Nested calls stay on their thread. Once f throws, no further range is begun, and the
// exception is rethrown on the caller. Any thread may call; a forked child, too, unless it was forked within f.
template <class F>
void parallel_for(int64_t n, int64_t grain, F&& f) {
  using Body = std::remove_reference_t<F>;
  parallel_for_raw(
      n, grain, [](void* c, int64_t begin, int64_t end) { (*static_cast<Body*>(c))(begin, end); },
      const_cast<std::remove_const_t<Body>*>(std::addressof(f)));
}

// The grain of indices that take `work` each, where `least` takes some 5 microseconds.
constexpr int64_t grain_for(int64_t work, int64_t least) {
  constexpr int64_t long_one = 4;  // times as long as the shortest that is worth claiming
  return work > long_one * least ? 0 : work > 0 && work < least ? least / work : 1;
}

}  // namespace espalier
