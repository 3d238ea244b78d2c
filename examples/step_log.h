// What comparisons with other frameworks read: the loss of every step.
#pragma once
#include <espalier/core/io/file.h>
#include <espalier/nn/optimizer.h>
#include <espalier/nn/train.h>

#include <cctype>
#include <filesystem>
#include <iomanip>
#include <sstream>
#include <string>
#include <vector>

namespace espalier::tool {

// step,loss,lr of every step; a resumed run keeps the lines of the steps before it.
class StepLog : public TrainObserver {
 public:
  StepLog(std::string path, const Optimizer& optimizer, bool resume) : path_(std::move(path)), optimizer_(optimizer) {
    if (!resume || !std::filesystem::exists(path_)) return;
    const auto bytes = read_file(path_, size_t(1) << 30);
    std::istringstream text(std::string(bytes.begin(), bytes.end()));
    for (std::string line; std::getline(text, line);) before_.push_back(line);
  }
  void step_begins(const StepContext& c) override {
    if (begun_) return;
    begun_ = true;
    for (const auto& line : before_)
      if (std::isdigit(static_cast<unsigned char>(line[0])) && std::stoll(line) < c.step) text_ << line << '\n';
  }
  void step_ends(const StepReport& r) override {
    text_ << r.step << ',' << std::setprecision(9) << r.numbers().loss << ',' << optimizer_.rate(0).lr << '\n';
  }
  void epoch_ends(const EpochRow&) override { write(); }
  void write() const {
    if (begun_) write_file(path_, "step,loss,lr\n" + text_.str());
  }

 private:
  std::string path_;
  const Optimizer& optimizer_;
  std::vector<std::string> before_;
  std::ostringstream text_;
  bool begun_ = false;
};

}  // namespace espalier::tool
