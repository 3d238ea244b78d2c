// Axes: from numbers to pixels, and which numbers are written beside them. Not part of the public library.
#pragma once
#include <string>
#include <vector>

namespace espalier {

// low..high lies at from..to.
struct Scale {
  double low, high, from, to;
  bool log = false;
  double operator()(double value) const;
};

// Round numbers between low and high, about `want` of them; on a log scale 1, 2 and 5 times powers of ten.
std::vector<double> ticks_of(double low, double high, int want, bool log);
std::string tick_text(double value);  // "0.25", "20k", "1.2M"

}  // namespace espalier
