// Rates and remaining times are those of the epoch that runs, from its first step in this process.
#include <espalier/nn/progress.h>

#include <cmath>
#include <cstdio>
#include <ostream>

namespace espalier {

namespace {

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

}  // namespace

std::string clock_text(double seconds) {
  const auto s = int64_t(std::llround(std::max(seconds, 0.)));
  const auto h = (long long)(s / 3600), m = (long long)(s / 60 % 60), r = (long long)(s % 60);
  return h ? format("%lld:%02lld:%02lld", h, m, r) : format("%lld:%02lld", m, r);
}

Progress::Progress(std::ostream& out, bool terminal, std::string label)
    : out_(out), terminal_(terminal), label_(label.empty() ? "" : label + ": ") {}

void Progress::line(const std::string& text, bool final) {
  if (terminal_) {
    const size_t n = label_.size() + text.size();
    out_ << '\r' << label_ << text << std::string(drawn_ > n ? drawn_ - n : 0, ' ');
    drawn_ = final ? 0 : n;
    if (final) out_ << '\n';
  } else {
    out_ << label_ << text << '\n';
  }
  out_.flush();
}

void Progress::epoch_begins(int64_t, int64_t epochs) {
  epochs_ = epochs;
  seen_ = 0;
  first_batch_ = -1;
  epoch_start_ = last_ = Clock::now();
}

void Progress::step_ends(const StepReport& r) {
  if (first_batch_ < 0) first_batch_ = r.batch;
  seen_ += r.examples;
  const auto now = Clock::now();
  if (now - last_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000))) return;
  last_ = now;
  const double spent = std::chrono::duration<double>(now - epoch_start_).count();
  const int64_t done = r.batch + 1 - first_batch_, left = (epochs_ - r.epoch) * r.batches - (r.batch + 1);
  line(format("epoch %lld/%lld  batch %lld/%lld  %.1f images/s  ETA %s  loss %.4f  accuracy %.2f %%",
              (long long)(r.epoch + 1), (long long)(epochs_), (long long)(r.batch + 1), (long long)(r.batches),
              double(seen_) / spent, clock_text(spent / double(done) * double(left)).c_str(), r.epoch_loss,
              100 * r.epoch_accuracy),
       false);
}

void Progress::epoch_ends(const EpochRow& r) {
  std::string text =
      format("epoch %lld/%lld  %s  lr %.4g  loss %.4f  accuracy %.2f %%", (long long)(r.epoch + 1),
             (long long)(epochs_), clock_text(r.seconds).c_str(), r.lr, r.train_loss, 100 * r.train_accuracy);
  if (!std::isnan(r.test_loss))
    text += format("  test loss %.4f  test accuracy %.2f %%", r.test_loss, 100 * r.test_accuracy);
  line(text, true);
}

}  // namespace espalier
