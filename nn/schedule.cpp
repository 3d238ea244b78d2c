// The formulas, and the small language in which a command line names them.
#include <espalier/nn/schedule.h>

#include <charconv>
#include <cmath>

namespace espalier {

namespace {

constexpr double pi = 3.14159265358979323846;

void require(bool good, const char* what) {
  if (!good) fail(ErrorKind::usage, "[schedule] ", what);
}

template <class... Parts>
std::string text_of(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

Schedule factor(std::function<double(int64_t)> f, std::string text) {
  return {.at =
              [f = std::move(f)](int64_t t, Rate base) {
                return Rate{base.lr * f(t), base.momentum};
              },
          .text = std::move(text)};
}

std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (c == by)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

template <class T>
T number(const std::string& text, const std::string& whole) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(double(value)))
    fail(ErrorKind::usage, "[schedule] \"", text, "\" in \"", whole, "\" is not a number of the expected kind");
  return value;
}

}  // namespace

void set_rates(Optimizer& optimizer, const Schedule& schedule, int64_t t, int64_t steps) {
  for (size_t g = 0; g < optimizer.groups(); ++g) {
    const Rate base = optimizer.base_rate(g);
    std::vector<Rate> rates;
    for (int64_t i = 0; i < steps; ++i) rates.push_back(schedule.at ? schedule.at(t + i, base) : base);
    optimizer.set_rates(g, std::move(rates));
  }
}

Schedule step_lr(StepOptions o) {
  require(o.step_size >= 1, "step_size must be 1 or more");
  return factor([o](int64_t t) { return std::pow(o.gamma, double(t / o.step_size)); },
                text_of("step_lr(step_size=", o.step_size, ", gamma=", o.gamma, ")"));
}

Schedule multi_step_lr(MultiStepOptions o) {
  for (size_t i = 1; i < o.milestones.size(); ++i)
    require(o.milestones[i - 1] < o.milestones[i], "milestones must rise");
  std::string milestones;
  for (int64_t m : o.milestones) milestones += text_of(milestones.empty() ? "" : ",", m);
  return factor(
      [o](int64_t t) {
        int passed = 0;
        for (int64_t m : o.milestones) passed += t >= m;
        return std::pow(o.gamma, passed);
      },
      text_of("multi_step_lr(milestones=[", milestones, "], gamma=", o.gamma, ")"));
}

Schedule cosine_lr(CosineOptions o) {
  require(o.t_max >= 1, "t_max must be 1 or more");
  return {.at =
              [o](int64_t t, Rate base) {
                const double cosine = std::cos(pi * double(t) / double(o.t_max));
                return Rate{o.eta_min + (base.lr - o.eta_min) * (1 + cosine) / 2, base.momentum};
              },
          .text = text_of("cosine_lr(t_max=", o.t_max, ", eta_min=", o.eta_min, ")")};
}

Schedule one_cycle_lr(OneCycleOptions o) {
  require(o.total_steps >= 1 && o.pct_start >= 0 && o.pct_start <= 1, "one cycle needs steps and 0 <= pct_start <= 1");
  require(o.div_factor > 0 && o.final_div_factor > 0, "one cycle's factors must be positive");
  return {.at =
              [o](int64_t t, Rate base) {
                const auto between = [](double from, double to, double part) {
                  return to + (from - to) / 2 * (std::cos(pi * part) + 1);
                };
                const double first = o.max_lr / o.div_factor, last = first / o.final_div_factor;
                const double peak = o.pct_start * double(o.total_steps) - 1, end = double(o.total_steps) - 1;
                const double now = std::min(double(t), end);
                const bool rising = now <= peak;
                const double part = rising ? (peak > 0 ? now / peak : 1) : (now - peak) / (end - peak);
                Rate rate = base;
                rate.lr = rising ? between(first, o.max_lr, part) : between(o.max_lr, last, part);
                if (o.cycle_momentum)
                  rate.momentum = rising ? between(o.max_momentum, o.base_momentum, part)
                                         : between(o.base_momentum, o.max_momentum, part);
                return rate;
              },
          .per_step = true,
          .text = text_of("one_cycle_lr(max_lr=", o.max_lr, ", total_steps=", o.total_steps, ")")};
}

Schedule warm_up(WarmUpOptions o, Schedule then) {
  require(o.length >= 1 && o.start_factor > 0 && o.start_factor <= 1,
          "warm-up needs a length of 1 or more and a start factor in (0,1]");
  const bool per_step = then.per_step;
  std::string text = text_of("warm_up(length=", o.length, ", start_factor=", o.start_factor, ") then ", then.text);
  return {.at =
              [o, then = std::move(then)](int64_t t, Rate base) {
                if (t >= o.length) return then.at ? then.at(t - o.length, base) : base;
                const double f = o.start_factor + (1 - o.start_factor) * double(t) / double(o.length);
                return Rate{base.lr * f, base.momentum};
              },
          .per_step = per_step,
          .text = std::move(text)};
}

Schedule parse_schedule(const std::string& text, int64_t epochs, int64_t steps_per_epoch) {
  if (text.starts_with("warmup:")) {
    const size_t plus = text.find('+');
    const int64_t length = number<int64_t>(text.substr(7, plus == std::string::npos ? plus : plus - 7), text);
    Schedule then = plus == std::string::npos
                        ? Schedule{}
                        : parse_schedule(text.substr(plus + 1), std::max<int64_t>(epochs - length, 1), steps_per_epoch);
    return warm_up({.length = length}, std::move(then));
  }
  const auto parts = split(text, ':');
  const auto gamma = [&](size_t at) { return parts.size() > at ? number<double>(parts[at], text) : 0.1; };
  const auto counts = [&](size_t least, size_t most) {
    if (parts.size() < least || parts.size() > most)
      fail(ErrorKind::usage, "[schedule] \"", text, "\" has the wrong number of parts");
  };
  if (parts[0] == "none") {
    counts(1, 1);
    return {};
  }
  if (parts[0] == "step") {
    counts(2, 3);
    return step_lr({.step_size = number<int64_t>(parts[1], text), .gamma = gamma(2)});
  }
  if (parts[0] == "multistep") {
    counts(2, 3);
    std::vector<int64_t> milestones;
    for (const std::string& m : split(parts[1], ',')) milestones.push_back(number<int64_t>(m, text));
    return multi_step_lr({.milestones = milestones, .gamma = gamma(2)});
  }
  if (parts[0] == "cosine") {
    counts(1, 2);
    return cosine_lr({.t_max = epochs, .eta_min = parts.size() > 1 ? number<double>(parts[1], text) : 0});
  }
  if (parts[0] == "onecycle") {
    counts(2, 2);
    return one_cycle_lr({.max_lr = number<double>(parts[1], text), .total_steps = epochs * steps_per_epoch});
  }
  fail(ErrorKind::usage, "[schedule] \"", text,
       "\", expected none, step:SIZE[:GAMMA], multistep:M1,M2,...[:GAMMA], cosine[:MIN] or onecycle:MAX, after an "
       "optional warmup:LENGTH+");
}

}  // namespace espalier
