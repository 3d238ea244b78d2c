// Counter-based random numbers: a value is a function of (seed, stream, index) and of nothing else, so that
// results do not depend on threads, devices or on where a run was resumed.
// Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#pragma once
#include <espalier/core/api.h>

#include <cmath>
#include <cstdint>

namespace espalier {

// Four random words, v.
struct Random4 {
  uint32_t v[4];
};

// 128 random bits: ten rounds of Philox on the counter, under the key `seed`.
ESPALIER_KERNEL Random4 philox(uint64_t seed, uint64_t stream, uint64_t counter) {
  uint32_t k0 = uint32_t(seed), k1 = uint32_t(seed >> 32);
  Random4 r{{uint32_t(counter), uint32_t(counter >> 32), uint32_t(stream), uint32_t(stream >> 32)}};
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * r.v[0], b = uint64_t(0xCD9E8D57u) * r.v[2];
    r = {{uint32_t(b >> 32) ^ r.v[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ r.v[3] ^ k1, uint32_t(a)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return r;
}

// 32 random bits.
ESPALIER_KERNEL uint32_t random_u32(uint64_t seed, uint64_t stream, uint64_t index) {
  return philox(seed, stream, index >> 2).v[index & 3];
}

// In [0,1), 24 bits.
ESPALIER_KERNEL float random_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
  return float(random_u32(seed, stream, index) >> 8) * (1.0f / 16777216.0f);
}

// Standard normal by Box and Muller; two uniforms per value.
inline double random_normal(uint64_t seed, uint64_t stream, uint64_t index) {
  const Random4 r = philox(seed, stream, index);
  const double u = (double(r.v[0]) + 0.5) / 4294967296.0, t = double(r.v[1]) / 4294967296.0;
  return std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * t);
}

// An integer in [0,n), n >= 1.
ESPALIER_KERNEL uint64_t random_below(uint64_t seed, uint64_t stream, uint64_t index, uint64_t n) {
  const Random4 r = philox(seed, stream, index);
  return ((uint64_t(r.v[0]) << 32) | r.v[1]) % n;
}

// Streams keep the uses of one seed apart: stream_of("dropout", step) never meets stream_of("shuffle", epoch).
// purpose_of() is the number that a name stands for (FNV-1a).
constexpr uint64_t purpose_of(const char* name) {
  uint64_t h = 1469598103934665603ull;
  for (; *name; ++name) h = (h ^ uint64_t(*name)) * 1099511628211ull;
  return h;
}
ESPALIER_KERNEL constexpr uint64_t stream_of(uint64_t purpose, uint64_t number) {
  return (purpose ^ (number * 0x9E3779B97F4A7C15ull)) * 1099511628211ull + number;
}
constexpr uint64_t stream_of(const char* purpose, uint64_t number = 0) {
  return stream_of(purpose_of(purpose), number);
}

}  // namespace espalier
