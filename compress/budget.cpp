// Reading a budget, and saying what misses it.
#include <espalier/compress/budget.h>
#include <espalier/core/error.h>

#include <cmath>
#include <cstdlib>
#include <iomanip>
#include <sstream>

namespace espalier {

namespace {

[[noreturn]] void refuse(const std::string& text, const std::string& part, const std::string& why) {
  fail(ErrorKind::usage,
       "[budget] expected conditions as params<1M, flops<100M, flops<50% or latency@1<3ms behind commas, got \"", text,
       "\"", part == text ? "" : ": \"" + part + "\"", why);
}

// "1.2 M"
std::string count_text(double n) {
  std::ostringstream out;
  out << std::setprecision(4);
  if (n >= 1e9)
    out << n / 1e9 << " G";
  else if (n >= 1e6)
    out << n / 1e6 << " M";
  else if (n >= 1e4)
    out << n / 1e3 << " K";
  else
    out << n;
  return out.str();
}

std::string limit_text(const Limit& limit, const char* unit) {
  std::ostringstream out;
  out << std::setprecision(6);
  if (limit.relative)
    out << 100 * limit.value << '%';
  else
    out << limit.value << unit;
  return out.str();
}

}  // namespace

Budget parse_budget(const std::string& text) {
  Budget budget;
  for (size_t from = 0; from <= text.size();) {
    const size_t comma = std::min(text.find(',', from), text.size());
    const std::string part = text.substr(from, comma - from);
    from = comma + 1;
    const size_t less = part.find('<');
    if (less == std::string::npos) refuse(text, part, " has no <");
    const std::string what = part.substr(0, less), number = part.substr(less + 1);
    char* end = nullptr;
    const double value = std::strtod(number.c_str(), &end);
    std::string unit = end;
    if (end == number.c_str() || !(value > 0) || std::isinf(value))
      refuse(text, part, " has no number above 0 behind the <");
    Limit limit{value};
    std::optional<Limit>* place = nullptr;
    if (what.starts_with("latency@")) {
      const std::string images = what.substr(8);
      if (images.empty() || images.size() > 4 || images.find_first_not_of("0123456789") != std::string::npos ||
          std::stoll(images) < 1)
        refuse(text, part, " has no number of images, 1 to 9999, behind the @");
      budget.batch = std::stoll(images);
      place = &budget.ms;
      if (unit != "ms" && unit != "%") refuse(text, part, " does not end in ms or %");
    } else if (what == "params" || what == "flops") {
      place = what == "params" ? &budget.params : &budget.flops;
      if (unit == "K" || unit == "M" || unit == "G")
        limit.value *= unit == "K" ? 1e3 : unit == "M" ? 1e6 : 1e9;
      else if (!unit.empty() && unit != "%")
        refuse(text, part, " ends in \"" + unit + "\", which is none of K, M, G and %");
    } else {
      refuse(text, part, " limits none of params, flops and latency@N");
    }
    if (unit == "%") {
      limit = {value / 100, true};
      if (value > 100) refuse(text, part, " is more than the whole");
    }
    if (*place) refuse(text, part, " comes twice");
    *place = limit;
  }
  return budget;
}

std::string to_string(const Budget& budget) {
  std::string text;
  const auto add = [&](const std::string& part) { text += (text.empty() ? "" : ",") + part; };
  if (budget.params) add("params<" + limit_text(*budget.params, ""));
  if (budget.flops) add("flops<" + limit_text(*budget.flops, ""));
  if (budget.ms) add("latency@" + std::to_string(budget.batch) + "<" + limit_text(*budget.ms, "ms"));
  return text;
}

std::vector<std::string> missed(const Budget& budget, const Resources& got, double ms, const Resources& whole,
                                double whole_ms) {
  std::vector<std::string> all;
  const auto check = [&](const std::string& name, double value, double limit, double slack,
                         const std::string& value_text, const std::string& limit_text_) {
    if (value < limit || (slack > 1 && value <= slack * limit)) return;
    std::ostringstream line;
    line << name << ": " << value_text << ", asked for less than " << limit_text_ << ", " << std::setprecision(3)
         << 100 * (value / limit - 1) << " % more";
    all.push_back(line.str());
  };
  const auto count = [&](const char* name, const std::optional<Limit>& limit, int64_t value, int64_t of) {
    if (!limit) return;
    const double most = limit->of(double(of));
    check(name, double(value), most, 1, count_text(double(value)), count_text(most));
  };
  count("params", budget.params, got.params, whole.params);
  count("flops", budget.flops, got.flops, whole.flops);
  if (budget.ms) {
    const double most = budget.ms->of(whole_ms);
    const auto text = [](double v) {
      std::ostringstream out;
      out << std::setprecision(4) << v << " ms";
      return out.str();
    };
    check("latency@" + std::to_string(budget.batch), ms, most, latency_slack, text(ms), text(most));
  }
  return all;
}

}  // namespace espalier
