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

Progress::Progress(std::ostream& out, bool terminal, std::string label, std::function<int()> width)
    : out_(out), terminal_(terminal), label_(label.empty() ? "" : label + ": "), width_(std::move(width)) {}

void Progress::line(std::string text, bool final) {
  text = label_ + text;
  if (terminal_) {
    const int width = width_ ? width_() : 0;
    if (width > 0 && !final && text.size() >= size_t(width)) text.resize(size_t(width) - 1);
    out_ << '\r' << text << std::string(drawn_ > text.size() ? drawn_ - text.size() : 0, ' ');
    drawn_ = final ? 0 : text.size();
    if (final) out_ << '\n';
  } else {
    out_ << text << '\n';
  }
  out_.flush();
}

void Progress::end_line() {
  if (drawn_ == 0) return;
  drawn_ = 0;
  out_ << '\n';
  out_.flush();
}

void Progress::warning(const std::string& text) {
  end_line();
  line("warning: " + text, true);
}

void Progress::resumed(const TrainState& from) {
  end_line();
  line(
      format("goes on with epoch %lld after %lld of its batches", (long long)(from.epoch + 1), (long long)(from.batch)),
      true);
}

bool Progress::due() {
  const auto now = Clock::now();
  if (now - last_ < (terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10000))) return false;
  last_ = now;
  return true;
}

// All epochs' training and testing that is left. Until a test has been timed, its batch counts as a third of a step.
double Progress::remaining() const {
  const double test = test_seconds_ >= 0 ? test_seconds_ : step_seconds_ / 3;
  const int64_t epochs = epochs_ - epoch_;
  return step_seconds_ * double(epochs * batches_ - batch_) + test * double(epochs * test_batches_ - tested_);
}

void Progress::epoch_begins(int64_t epoch, int64_t epochs) {
  epoch_ = epoch;
  epochs_ = epochs;
  seen_ = steps_ = batch_ = tested_ = 0;
  epoch_start_ = last_ = Clock::now();
}

void Progress::step_ends(const StepReport& r) {
  ++steps_;
  seen_ += r.examples;
  batch_ = r.batch + 1;
  batches_ = r.batches;
  test_batches_ = r.test_batches;
  test_start_ = Clock::now();
  const double spent = std::chrono::duration<double>(test_start_ - epoch_start_).count();
  step_seconds_ = spent / double(steps_);
  if (!due()) return;
  const StepReport::Numbers numbers = r.numbers();
  line(format("epoch %lld/%lld  batch %lld/%lld  %.1f images/s  ETA %s  loss %.4f  accuracy %.2f %%",
              (long long)(r.epoch + 1), (long long)(epochs_), (long long)(batch_), (long long)(batches_),
              double(seen_) / spent, clock_text(remaining()).c_str(), numbers.epoch_loss, 100 * numbers.epoch_accuracy),
       false);
}

void Progress::test_step_ends(const TestReport& r) {
  tested_ = r.batch + 1;
  test_batches_ = r.batches;
  if (steps_ == 0 && tested_ == 1)
    test_start_ = Clock::now();  // resumed between the last step and the test
  else
    test_seconds_ = std::chrono::duration<double>(Clock::now() - test_start_).count() / double(tested_);
  if (due())
    line(format("epoch %lld/%lld  testing, batch %lld/%lld  ETA %s", (long long)(r.epoch + 1), (long long)(epochs_),
                (long long)(tested_), (long long)(r.batches), clock_text(remaining()).c_str()),
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
