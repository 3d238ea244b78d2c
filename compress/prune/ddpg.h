// Ddpg: an agent that learns a number between 0 and 1 for each of a row of states, from one reward at the row's end
// (Lillicrap et al. 2015, arXiv 1509.02971; in AMC's form, He et al. 2018, arXiv 1802.03494): an actor that answers, a
// critic that values answers, slow copies of both that targets come from. On our own layers and optimisers.
#pragma once
#include <espalier/nn/layers.h>
#include <espalier/nn/optimizer.h>

#include <functional>
#include <memory>
#include <vector>

namespace espalier {

// hidden1 and hidden2 are the widths of the hidden layers, discount what a later reward is worth now.
struct DdpgOptions {
  int64_t hidden1 = 300, hidden2 = 300;
  double lr_c = 1e-3, lr_a = 1e-4;  // Adam's, of critic and actor
  double tau = 0.01;                // how far the slow copies move with every update
  double discount = 1;
  int64_t bsize = 64, rmsize = 1600;  // transitions per update, and remembered
};

// One step: in this state this action (0 to 1) gave a reward and led to the next state.
struct Transition {
  std::vector<float> state, next;
  float action, reward;
  bool done;  // nothing follows: `next` does not count
};

class ESPALIER_API Ddpg {
 public:
  // `uniform(low, high)` is where all chance comes from but for first weights, which this thread's random state gives.
  Ddpg(int64_t states, DdpgOptions options, std::function<double(double, double)> uniform);
  ~Ddpg();

  double answer(const std::vector<float>& state) const;  // the actor's, 0 to 1
  // The answer under noise: normal about it, of that deviation, cut off at 0 and 1.
  double explore(const std::vector<float>& state, double deviation);
  void observe(Transition transition);  // the oldest is forgotten where memory is full
  // One update from a batch that is drawn without replacement; nothing, as long as fewer are remembered.
  void learn();
  // One update from these. Rewards count from a moving average of batches' means.
  void learn(const std::vector<const Transition*>& batch);

  void settle();     // the slow copies become what actor and critic are, which the caller has changed
  Module& actor();   // states -> an answer, 0 to 1: [N,states] -> [N,1]
  Module& critic();  // what it thinks an answer is worth

 private:
  struct Networks;
  DdpgOptions options_;
  std::function<double(double, double)> uniform_;
  std::unique_ptr<Networks> networks_;
  std::vector<Transition> memory_;
  size_t oldest_ = 0;
  double average_ = 0;
  bool averaged_ = false;
};

}  // namespace espalier
