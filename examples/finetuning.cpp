// Options to what training needs.
#include "finetuning.h"

#include <espalier/compress/mask.h>
#include <espalier/compress/recalibrate.h>

namespace espalier::tool {

void add_finetuning_options(cxxopts::OptionAdder& add) {
  const auto text = [] { return cxxopts::value<std::string>(); };
  add("reconstruct",
      "make up for lost inputs with those that are left, in least squares over so many batches of training images, "
      "once masks are there, and before a search judges a candidate",
      text()->default_value("0"), "N")(
      "recalibrate",
      "measure batch norms anew, from so many batches of training images, once masks are there, and before a "
      "search judges a candidate",
      text()->default_value("0"), "N")("finetune-on",
                                       "shrunk: the network without its masked channels, which learns the same for "
                                       "less; masked; auto: shrunk where masks "
                                       "stay as they are and nothing drops out",
                                       text()->default_value("auto"), "WHAT");
  add_teacher_options(add);
}

Finetuning::Finetuning(Context& c, Module& module, const ModelInfo& info, bool fixed_masks)
    : c_(c),
      module_(module),
      info_(info),
      fixed_masks_(fixed_masks),
      reconstructed_(c.integer("reconstruct", 0, 1'000'000)),
      recalibrated_(c.integer("recalibrate", 0, 1'000'000)) {
  const std::string on = c.choice("finetune-on", {"auto", "shrunk", "masked"});
  if (on == "shrunk" && !fixed_masks)
    fail(ErrorKind::usage, "[--finetune-on] shrunk needs masks that stay as they are while the network learns");
  if (on == "shrunk")
    if (const std::string why = ShrunkTraining::obstacle(module); !why.empty())
      fail(ErrorKind::usage, "[--finetune-on] shrunk: ", why);
  teacher_ = Teacher::of(c, module, info);
  if (on == "shrunk" && c.given("hints"))
    fail(ErrorKind::usage, "[--finetune-on] shrunk goes without --hints, which listen at the network's own layers");
}

bool adapts(const Context& c) { return c.integer("reconstruct") > 0 || c.integer("recalibrate") > 0; }

void Finetuning::look(BatchSource& source) {
  if (reconstructed_ == 0) return;
  reconstruction_ = std::make_unique<Reconstruction>(
      module_, source, ReconstructOptions{.batches = reconstructed_, .device = c_.device(), .stop = &stop()});
  leave_if_stopped(how_to_go_on);
}

void Finetuning::adapt(Module& module, BatchSource& source) const {
  if (reconstruction_) (*reconstruction_)(module);
  if (recalibrated_ > 0)
    recalibrate(module, source, {.batches = recalibrated_, .device = c_.device(), .stop = &stop()});
  leave_if_stopped(how_to_go_on);
}

void Finetuning::adapt_and_tell(BatchSource& source) {
  adapt(module_, source);
  if (reconstruction_) c_.say() << "layers make up for lost inputs" << std::endl;
  if (recalibrated_ > 0) c_.say() << "batch norms measured anew" << std::endl;
  reconstruction_ = nullptr;  // a layer's products are as large as its filters squared
}

void Finetuning::begin(TrainOptions& options, std::vector<TrainObserver*>& observers) {
  if (teacher_) {
    teacher_->teach(options);
    c_.summary["teacher"] = teacher_->to_json();
  }
  const std::string on = c_.text("finetune-on");
  const bool shrinks =
      on != "masked" && fixed_masks_ && !masks_of(module_).empty() && ShrunkTraining::obstacle(module_).empty();
  c_.summary["finetuned_on"] = shrinks ? "shrunk" : "masked";
  if (!shrinks) return;
  shrunk_ = std::make_unique<ShrunkTraining>(module_, random_images(info_, 2));
  observers.push_back(shrunk_.get());
}

void Finetuning::end() {
  if (teacher_) teacher_->leave();
  if (!shrunk_) return;
  shrunk_->expand();
  if (const SpeedupReport& r = shrunk_->report(); r.params_before > 0)
    c_.say() << "fine-tuned on the shrunk network: " << r.params_after << " of " << r.params_before << " parameters, "
             << r.flops_after << " of " << r.flops_before << " FLOPs" << std::endl;
  shrunk_ = nullptr;
}

}  // namespace espalier::tool
