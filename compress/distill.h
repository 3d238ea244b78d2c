// Knowledge distillation: a student learns from the labels and from what a teacher answers to the same images (Hinton
// et al. 2015, arXiv 1503.02531), and, where asked, from the teacher's features (FitNets: Romero et al. 2014, arXiv
// 1412.6550). It is a loss, so it goes with any training: TrainOptions::batch_loss = distillation.loss().
#pragma once
#include <espalier/nn/examples.h>
#include <espalier/nn/ports.h>
#include <espalier/nn/train.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace espalier {

// The part of the loss that looks at logits (or log-probabilities, which are logits as good as any), both [N,classes]:
// KL(softmax(teacher/T) || softmax(student/T)), the mean over the batch. No gradient flows into the teacher's.
ESPALIER_API Tensor distillation_loss(const Tensor& student, const Tensor& teacher, double temperature);

// What a layer of the student puts out is to be like what a layer of the teacher does: their mean squared difference.
struct Hint {
  std::string student, teacher;  // layers by name
  double weight = 1;             // of that difference in the loss
};

// How much of the loss comes from where.
struct DistillOptions {
  double temperature = 5;        // T, by which logits are divided; above 0
  double alpha = 1, beta = 0.8;  // alpha · loss(labels) + beta · T² · KL; NNI's example has these numbers
  // The factor T², which keeps the gradient's size when T changes (Hinton, section 2). false: NNI's example, without.
  bool t_squared = true;
  std::vector<Hint> hints = {};  // features to be alike
  Examples example = {};         // an input of both; hints need it, to learn the layers' widths
};

// The loss, and what it listens with on both models.
class ESPALIER_API Distillation {
 public:
  // The teacher is run in eval mode, on the device where the images are. `loss` is the student's own, of the labels.
  // For hints, transforms that listen go on ports of both, and where a student's layer is narrower or wider than the
  // teacher's, a 1x1 convolution (or a linear layer) between them that every optimiser of the student learns, too, and
  // checkpoints carry; make the Distillation before the optimiser's state is loaded. Its first values take one draw of
  // the random state each. Throws usage on a temperature that is not above 0, a layer that is not there, features of
  // different sizes.
  Distillation(Module& student, Module& teacher, Loss loss, DistillOptions options = {});
  ~Distillation();  // nobody listens any more
  Distillation(const Distillation&) = delete;
  Distillation& operator=(const Distillation&) = delete;

  // Where no gradients are recorded (an evaluation), the student's own loss alone, and the teacher rests. Valid while
  // this lives.
  BatchLoss loss();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// What lets files of a student be read without its teacher: the 1x1 convolutions in them are passed over.
std::pair<std::string, PortReader> hint_port_reader();

}  // namespace espalier
