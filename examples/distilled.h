// A teacher for the tools that train: --teacher and what goes with it, as a loss.
#pragma once
#include <espalier/compress/distill.h>

#include "setup.h"

namespace espalier::tool {

// --teacher --teacher-model --teacher-key --temperature --alpha --beta --hints
void add_teacher_options(cxxopts::OptionAdder& add);

// The network that --teacher names, and the Distillation of a student from it. Without hints it answers as it is run
// (Running), else layer by layer.
class Teacher {
 public:
  // Throws usage where it does not take the student's images or knows other classes. Null without --teacher.
  static std::unique_ptr<Teacher> of(const Context& context, Module& student, const ModelInfo& info);
  // Makes `options` learn from it, in the place of options.loss alone.
  void teach(TrainOptions& options);
  void leave() { distillation_ = nullptr; }  // its hints leave the student's ports
  nlohmann::ordered_json to_json() const;

 private:
  LoadedModel model_;
  std::unique_ptr<Running> running_;
  Module* student_ = nullptr;
  Module* teacher_ = nullptr;
  DistillOptions options_;
  std::string file_;
  std::unique_ptr<Distillation> distillation_;
};

}  // namespace espalier::tool
