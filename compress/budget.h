// Budget: what a network may cost - parameters, FLOPs, milliseconds - and whether it does. Milliseconds are measured on
// this machine, of the network that ships.
#pragma once
#include <espalier/compress/resources.h>

#include <optional>
#include <string>
#include <vector>

namespace espalier {

// A value, or, relative, that part of what the whole network costs.
struct Limit {
  double value;
  bool relative = false;
  // The limit, where that is what the whole network costs.
  double of(double whole) const { return relative ? value * whole : value; }
};

struct Budget {
  std::optional<Limit> params, flops, ms;  // flops for one example, as count_flops_params counts
  int64_t batch = 1;                       // how many images at once take those milliseconds
  // Is anything limited?
  bool any() const { return params || flops || ms; }
};

// "params<1M,flops<100M,latency@1<3ms": one to three conditions, each once. Numbers may end in K, M or G, or in % (of
// the whole network); milliseconds in ms. Throws usage, with what was expected.
ESPALIER_API Budget parse_budget(const std::string& text);
// As parse_budget() reads it.
ESPALIER_API std::string to_string(const Budget& budget);

// A measured time counts as met up to 1.05 times what was asked for: so far do two measurements differ.
inline constexpr double latency_slack = 1.05;

// What misses it, and by how much: "flops: 120 M, asked for less than 100 M, 20 % more"; none: it is met. `whole` is
// what relative limits are of, in the second place milliseconds; they do not matter where none are asked for.
ESPALIER_API std::vector<std::string> missed(const Budget& budget, const Resources& got, double ms,
                                             const Resources& whole, double whole_ms);

}  // namespace espalier
