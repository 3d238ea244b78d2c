// Asking the processor, once.
#include <espalier/core/cpu/isa.h>
#include <espalier/core/error.h>

#include <atomic>
#include <cstdlib>
#include <string_view>

namespace espalier::cpu {

namespace {

bool avx2_wanted() {
  static const bool wanted = [] {
    const char* name = std::getenv("ESPALIER_ISA");
    return name && std::string_view(name) == "avx2";
  }();
  return wanted;
}

Isa best() { return !avx2_wanted() && has(Isa::vnni) ? Isa::vnni : Isa::avx2; }

std::atomic<int> chosen{-1};

}  // namespace

bool has(Isa isa) {
  if (isa == Isa::avx2) return true;  // what the library is compiled for
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}

bool has_popcount() { return has(Isa::vnni) && __builtin_cpu_supports("avx512vpopcntdq"); }

Isa isa() {
  const int set = chosen.load(std::memory_order_relaxed);
  if (set >= 0) return Isa(set);
  static const Isa found = best();
  return found;
}

bool avx512() {
  static const bool there = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  const int set = chosen.load(std::memory_order_relaxed);
  return there && (set >= 0 ? Isa(set) != Isa::avx2 : !avx2_wanted());
}

void set_isa(std::optional<Isa> isa) {
  if (isa && !has(*isa)) fail(ErrorKind::usage, "[set_isa] this machine has no AVX-512 VNNI");
  chosen.store(isa ? int(*isa) : -1, std::memory_order_relaxed);
}

}  // namespace espalier::cpu
