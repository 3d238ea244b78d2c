// Schedules: the learning rate (and momentum) as a function of time and of the rate that the optimiser was made with.
// A schedule has no state, so a resumed run needs only to know what time it is. Formulas and names are PyTorch's.
#pragma once
#include <espalier/nn/optimizer.h>

#include <functional>

namespace espalier {

// A rate for every time.
struct Schedule {
  // The rate at time t = 0, 1, ...; empty: the base rate for ever.
  std::function<Rate(int64_t t, Rate base)> at;
  bool per_step = false;      // t counts training steps; else epochs
  std::string text = "none";  // "step_lr(step_size=30, gamma=0.1)": written into checkpoints
};

// Sets every group's rates for the next `steps` steps to the schedule's at times t, t + 1, ...
ESPALIER_API void set_rates(Optimizer& optimizer, const Schedule& schedule, int64_t t, int64_t steps = 1);

// A fall by gamma every step_size epochs.
struct StepOptions {
  int64_t step_size = 30;
  double gamma = 0.1;
};
ESPALIER_API Schedule step_lr(StepOptions options);  // base·gamma^(t / step_size)

// A fall by gamma at each of the milestones, epochs.
struct MultiStepOptions {
  std::vector<int64_t> milestones;  // rising
  double gamma = 0.1;
};
ESPALIER_API Schedule multi_step_lr(MultiStepOptions options);  // base·gamma^(milestones passed)

// t_max epochs down to eta_min.
struct CosineOptions {
  int64_t t_max = 1;
  double eta_min = 0;
};
// From base at 0 to eta_min at t_max along half a cosine (Loshchilov & Hutter 2016, arXiv 1608.03983).
ESPALIER_API Schedule cosine_lr(CosineOptions options);

// total_steps steps, of which the part pct_start rises from max_lr / div_factor to max_lr; final_div_factor says how
// far below its beginning it ends; base_momentum and max_momentum bound the momentum.
struct OneCycleOptions {
  double max_lr = 0.1;
  int64_t total_steps = 1;
  double pct_start = 0.3, div_factor = 25, final_div_factor = 1e4;
  bool cycle_momentum = true;  // falls from max_momentum to base_momentum while the rate rises, and back
  double base_momentum = 0.85, max_momentum = 0.95;
};
// Cosine up from max_lr/div_factor to max_lr, then down to max_lr/div_factor/final_div_factor, step by step (Smith &
// Topin 2017, arXiv 1708.07120).
ESPALIER_API Schedule one_cycle_lr(OneCycleOptions options);

// How long the rate rises, and from which part of itself, start_factor.
struct WarmUpOptions {
  int64_t length = 5;  // in the unit of the schedule that follows
  double start_factor = 1. / 3;
};
// The rate grows linearly from start_factor·base to base over `length`, then `then` begins at its time 0: PyTorch's
// SequentialLR of LinearLR and another.
ESPALIER_API Schedule warm_up(WarmUpOptions options, Schedule then = {});

// The schedule that a command line names: "none", "step:SIZE[:GAMMA]", "multistep:M1,M2,...[:GAMMA]", "cosine[:MIN]"
// over `epochs`, "onecycle:MAX" over all steps; "warmup:LENGTH+" before any of them. Throws usage on anything else.
ESPALIER_API Schedule parse_schedule(const std::string& text, int64_t epochs, int64_t steps_per_epoch);

}  // namespace espalier
