// Progress: an observer that writes how training goes to a stream of the caller's choice - one line that is redrawn on
// a terminal, plain lines elsewhere. It asks for losses only when it draws, so it makes a device wait ten times a
// second at most.
#pragma once
#include <espalier/nn/train.h>

#include <chrono>
#include <iosfwd>

namespace espalier {

class ESPALIER_API Progress : public TrainObserver {
 public:
  // `terminal`: redraw one line ten times a second; else a line every ten seconds and one per epoch. `label` opens
  // every line ("fine-tuning"). `width` tells how many columns the terminal has now, 0 if it does not know: a line that
  // would reach the last one is cut, since a wrapped line cannot be redrawn.
  Progress(std::ostream& out, bool terminal, std::string label = "", std::function<int()> width = {});
  ~Progress() override { end_line(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void end_line();  // so that what others print next begins a line

  void warning(const std::string& text) override;
  void resumed(const TrainState& from) override;
  void epoch_begins(int64_t epoch, int64_t epochs) override;
  void step_ends(const StepReport& report) override;
  void test_step_ends(const TestReport& report) override;
  void epoch_ends(const EpochRow& row) override;

 private:
  using Clock = std::chrono::steady_clock;
  void line(std::string text, bool final);
  bool due();  // is it time to draw?
  double remaining() const;

  std::ostream& out_;
  bool terminal_;
  std::string label_;
  std::function<int()> width_;
  size_t drawn_ = 0;  // length of the line on the terminal
  Clock::time_point last_;

  int64_t epoch_ = 0, epochs_ = 0, seen_ = 0;
  int64_t steps_ = 0, batch_ = 0, batches_ = 0;  // of this epoch: steps by this process, done, to do
  int64_t tested_ = 0, test_batches_ = 0;        // the same of the test that ends it
  double step_seconds_ = 0, test_seconds_ = -1;  // per batch, as measured; -1: not yet
  Clock::time_point epoch_start_, test_start_;
};

// "1:02:03" or "2:03".
ESPALIER_API std::string clock_text(double seconds);

}  // namespace espalier
