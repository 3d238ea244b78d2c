// Options to a Distillation.
#include "distilled.h"

#include <sstream>

namespace espalier::tool {

void add_teacher_options(cxxopts::OptionAdder& add) {
  const auto text = [] { return cxxopts::value<std::string>(); };
  add("teacher", "learn from this network's answers, too (knowledge distillation)", text(), "FILE")(
      "teacher-model", "which it is, where the file does not say", text(), "NAME")(
      "teacher-key", "which entry of its dict the weights are, where several could be", text(), "NAME")(
      "temperature", "of both networks' answers", text()->default_value("5"), "T")(
      "alpha", "weight of the labels' loss beside a teacher", text()->default_value("1"), "X")(
      "beta", "weight of T^2 times the divergence from the teacher", text()->default_value("0.8"), "X")(
      "hints", "layers of the network = layers of the teacher, whose outputs are to be alike", text(), "A=B,C=D,..");
}

std::unique_ptr<Teacher> Teacher::of(const Context& c, Module& student, const ModelInfo& info) {
  refuse_ignored(c, {{{"teacher-model", "teacher-key", "temperature", "alpha", "beta", "hints"},
                      c.given("teacher"),
                      "with --teacher"}});
  if (!c.given("teacher")) return nullptr;
  auto t = std::make_unique<Teacher>();
  t->file_ = c.text("teacher");
  t->model_ = load_model(t->file_, c.text("teacher-model"), c.text("teacher-key"));
  const ModelInfo& theirs = t->model_.info;
  if (!(theirs.input == info.input) || theirs.classes != info.classes)
    fail(ErrorKind::usage, "[--teacher] ", theirs.name, " takes ", theirs.input, " and knows ", theirs.classes,
         " classes, ", info.name, " ", info.input, " and ", info.classes);
  to(*t->model_.module, c.device());
  t->options_ = {.temperature = c.real("temperature", 1e-3, 1e6),
                 .alpha = c.real("alpha", 0, 1e6),
                 .beta = c.real("beta", 0, 1e6),
                 .example = random_images(info, 1).to(c.device())};
  std::istringstream hints(c.text("hints"));
  for (std::string one; std::getline(hints, one, ',');) {
    const size_t at = one.find('=');
    if (at == std::string::npos || at == 0 || at + 1 == one.size())
      fail(ErrorKind::usage, "[--hints] expected LAYER=LAYER, got \"", one, "\"");
    t->options_.hints.push_back({one.substr(0, at), one.substr(at + 1)});
  }
  t->student_ = &student;
  t->teacher_ = t->model_.module.get();
  if (t->options_.hints.empty()) {
    t->running_ = std::make_unique<Running>(*t->model_.module, theirs, c.device());
    t->teacher_ = &t->running_->module();
  }
  return t;
}

void Teacher::teach(TrainOptions& options) {
  distillation_ = std::make_unique<Distillation>(*student_, *teacher_, options.loss, options_);
  options.loss = {};
  options.batch_loss = distillation_->loss();
}

nlohmann::ordered_json Teacher::to_json() const {
  nlohmann::ordered_json json{{"file", file_},
                              {"model", model_.info.name},
                              {"temperature", options_.temperature},
                              {"alpha", options_.alpha},
                              {"beta", options_.beta}};
  for (const Hint& hint : options_.hints)
    json["hints"].push_back({{"student", hint.student}, {"teacher", hint.teacher}});
  return json;
}

}  // namespace espalier::tool
