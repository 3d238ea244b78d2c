// Progress: an observer that writes how training goes to a stream of the caller's choice - one line that is redrawn on
// a terminal, plain lines elsewhere.
#pragma once
#include <espalier/nn/train.h>

#include <chrono>
#include <iosfwd>

namespace espalier {

class ESPALIER_API Progress : public TrainObserver {
 public:
  // `terminal`: redraw one line ten times a second; else a line every ten seconds and one per epoch. `label` opens
  // every line ("fine-tuning").
  Progress(std::ostream& out, bool terminal, std::string label = "");

  void epoch_begins(int64_t epoch, int64_t epochs) override;
  void step_ends(const StepReport& report) override;
  void epoch_ends(const EpochRow& row) override;

 private:
  void line(const std::string& text, bool final);

  using Clock = std::chrono::steady_clock;
  std::ostream& out_;
  bool terminal_;
  std::string label_;
  int64_t epochs_ = 0, seen_ = 0, first_batch_ = -1;
  size_t drawn_ = 0;  // length of the line on the terminal
  Clock::time_point epoch_start_, last_;
};

// "1:02:03" or "2:03".
ESPALIER_API std::string clock_text(double seconds);

}  // namespace espalier
