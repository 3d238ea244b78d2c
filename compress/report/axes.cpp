// Steps of 1, 2 or 5 times a power of ten.
#include <espalier/compress/report/axes.h>

#include <cmath>
#include <cstdio>

namespace espalier {

double Scale::operator()(double value) const {
  const double part =
      log ? (std::log10(value) - std::log10(low)) / (std::log10(high) - std::log10(low)) : (value - low) / (high - low);
  return from + part * (to - from);
}

std::vector<double> ticks_of(double low, double high, int want, bool log) {
  std::vector<double> ticks;
  if (log) {
    const int first = int(std::floor(std::log10(low))), last = int(std::ceil(std::log10(high)));
    for (const bool all : {true, false}) {
      ticks.clear();
      for (int power = first; power <= last; ++power)
        for (const double factor : {1., 2., 5.}) {
          const double tick = factor * std::pow(10., power);
          if ((all || factor == 1) && tick >= low * 0.999999 && tick <= high * 1.000001) ticks.push_back(tick);
        }
      if (int(ticks.size()) <= 2 * want) return ticks;
    }
    return ticks;
  }
  const double raw = (high - low) / want, power = std::pow(10., std::floor(std::log10(raw)));
  const double factor = raw / power;
  const double step = power * (factor < 1.5 ? 1 : factor < 3.5 ? 2 : factor < 7.5 ? 5 : 10);
  for (double k = std::ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; ++k) ticks.push_back(k * step);
  return ticks;
}

std::string tick_text(double value) {
  char text[32];
  const double size = std::abs(value);
  if (size >= 1e9)
    std::snprintf(text, sizeof text, "%.3gG", value / 1e9);
  else if (size >= 1e6)
    std::snprintf(text, sizeof text, "%.3gM", value / 1e6);
  else if (size >= 1e4)
    std::snprintf(text, sizeof text, "%.3gk", value / 1e3);
  else
    std::snprintf(text, sizeof text, "%.4g", size < 1e-12 ? 0 : value);
  return text;
}

}  // namespace espalier
