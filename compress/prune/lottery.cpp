// Rounds, and what they go back to.
#include <espalier/compress/prune/lottery.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/nn/state_dict.h>

#include <numeric>

namespace espalier {

namespace {

PrunerOptions with_rounds(PrunerOptions options) {
  options.schedule = lottery_schedule();
  return options;
}

}  // namespace

LotteryTicketPruner::LotteryTicketPruner(Module& model, ConfigList config_list, Optimizer* optimizer,
                                         LotteryOptions lottery, const std::string& pruning_algorithm,
                                         PrunerOptions options)
    : Pruner(make_scorer(pruning_algorithm), model, std::move(config_list), with_rounds(std::move(options))),
      optimizer_(optimizer),
      lottery_(lottery) {
  if (lottery_.rewind_step < 0)
    fail(ErrorKind::usage, "[lottery] rewind_step is ", lottery_.rewind_step, ", expected 0 or more");
  bool first = true;
  for (const auto& layer : selection().layers) {
    const int64_t n = *this->config_list()[size_t(layer.entry)].prune_iterations;
    if (!first && n != rounds_)
      fail(ErrorKind::usage, "[lottery] prune_iterations is ", rounds_, " and ", n, ", expected one number for all");
    rounds_ = n;
    first = false;
  }
  remember();
}

std::vector<int64_t> LotteryTicketPruner::get_prune_iterations() const {
  std::vector<int64_t> all(size_t(rounds_) + 1);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

void LotteryTicketPruner::remember() {
  pth::StateDict values;
  for (auto& [name, t] : named_values(model())) values.push_back({name, t->detach().clone()});
  values_ = pth::from_state_dict(values);
  optimizer_state_ = optimizer_ ? optimizer_->state() : pth::Value{};
}

void LotteryTicketPruner::go_back() {
  load_state_dict(model(), pth::state_dict(values_, "what rounds go back to"));
  if (optimizer_ && std::holds_alternative<pth::Dict>(optimizer_state_))
    optimizer_->load(optimizer_state_);
  else
    for (auto& [name, p] : named_parameters(model())) p->state.clear();
}

void LotteryTicketPruner::prune_iteration_start() {
  if (iteration_ >= rounds_) fail(ErrorKind::usage, "[lottery] all ", rounds_ + 1, " rounds have begun");
  compress();
  if (iteration_ == 0 && lottery_.reset_weights && steps_ < lottery_.rewind_step)
    fail(ErrorKind::usage, "[lottery] rewinds to step ", lottery_.rewind_step, ", and its first round had ", steps_);
  ++iteration_;
  steps_ = 0;
  update(double(iteration_));
  if (waiting())
    fail(ErrorKind::usage, "[lottery] ", scorer().name,
         " reads more than weights: call collect() before every prune_iteration_start()");
  if (iteration_ > 0 && lottery_.reset_weights) go_back();
}

void LotteryTicketPruner::stepped() {
  if (iteration_ == 0 && ++steps_ == lottery_.rewind_step) remember();
}

void LotteryTicketPruner::step() {
  Pruner::step();
  stepped();
}

void LotteryTicketPruner::step_ends(const StepReport& step) {
  Pruner::step_ends(step);
  stepped();
}

pth::Value LotteryTicketPruner::state() const {
  return pth::Dict{{"pruner", Pruner::state()},
                   {"iteration", iteration_},
                   {"steps", steps_},
                   {"values", values_},
                   {"optimizer", optimizer_state_}};
}

void LotteryTicketPruner::load(const pth::Value& state) {
  const auto* dict = std::get_if<pth::Dict>(&state);
  const auto number = [&](const char* key) {
    const pth::Value* v = dict ? state.find(key) : nullptr;
    if (!v || !std::holds_alternative<int64_t>(*v))
      fail(ErrorKind::data, "[lottery] the saved state is not a lottery ticket pruner's");
    return std::get<int64_t>(*v);
  };
  const int64_t iteration = number("iteration"), steps = number("steps");
  const pth::Value* values = state.find("values");
  const pth::Value* base = state.find("pruner");
  const pth::Value* optimizer = state.find("optimizer");
  if (iteration < -1 || iteration > rounds_ || !values || !base || !optimizer)
    fail(ErrorKind::data, "[lottery] the saved state is not a lottery ticket pruner's");
  pth::state_dict(*values, "the saved state");  // of tensors, or throws
  Pruner::load(*base);
  iteration_ = iteration, steps_ = steps;
  values_ = *values;
  optimizer_state_ = *optimizer;
}

}  // namespace espalier
