// A run's state to a pth::Value and back.
#include <espalier/nn/checkpoint.h>
#include <espalier/nn/ports.h>
#include <espalier/nn/state_dict.h>

#include <algorithm>
#include <map>

namespace espalier {

namespace {

using pth::Dict;
using pth::Value;

template <class T>
const T& get(const Value& v, const char* key, const std::string& path) {
  const Value* found = std::holds_alternative<Dict>(v) ? v.find(key) : nullptr;
  const T* value = found ? std::get_if<T>(found) : nullptr;
  if (!value) fail(ErrorKind::data, "[checkpoint] ", path, " has no valid entry \"", key, "\"");
  return *value;
}

Value from_row(const EpochRow& r) {
  return Dict{{"epoch", r.epoch},
              {"step", r.step},
              {"lr", r.lr},
              {"train_loss", r.train_loss},
              {"train_accuracy", r.train_accuracy},
              {"test_loss", r.test_loss},
              {"test_accuracy", r.test_accuracy},
              {"seconds", r.seconds}};
}

EpochRow to_row(const Value& v, const std::string& path) {
  const auto number = [&](const char* key) { return get<double>(v, key, path); };
  return {get<int64_t>(v, "epoch", path),
          get<int64_t>(v, "step", path),
          number("lr"),
          number("train_loss"),
          number("train_accuracy"),
          number("test_loss"),
          number("test_accuracy"),
          number("seconds")};
}

// Files of before observers had state carry no such entry: as if it were empty.
void load_observers(const Value& value, const std::string& path, const Statefuls& observers) {
  const Value saved = value.find("observers") ? get<Dict>(value, "observers", path) : Dict{};
  for (const auto& [name, state] : std::get<Dict>(saved))
    if (std::none_of(observers.begin(), observers.end(), [&key = name](Stateful* o) { return o->name() == key; }))
      fail(ErrorKind::data, "[checkpoint] ", path, " has the state of \"", name, "\", which does not observe this run");
  for (Stateful* o : observers) {
    if (o->name().empty()) continue;
    const Value* state = saved.find(o->name());
    if (!state) fail(ErrorKind::data, "[checkpoint] ", path, " has no state of \"", o->name(), "\"");
    o->load(*state);
  }
}

}  // namespace

void save_checkpoint(const std::string& path, Module& module, const Optimizer& optimizer, const TrainState& s,
                     const std::string& schedule, const std::string& note, const Statefuls& observers) {
  Dict states;
  for (const Stateful* o : observers)
    if (!o->name().empty()) states.push_back({o->name(), o->state()});
  Dict ports;
  for (const auto& [name, t] : port_tensors(module)) ports.push_back({name, t.detach()});
  pth::List rows;
  for (const EpochRow& r : s.rows) rows.push_back(from_row(r));
  const RandomState random = random_state();
  pth::save(path,
            Dict{{"model", pth::from_state_dict(state_dict(module))},
                 {"ports", std::move(ports)},
                 {"optimizer", optimizer.state()},
                 {"observers", std::move(states)},
                 {"schedule", schedule},
                 {"random", Dict{{"seed", int64_t(random.seed)}, {"draws", int64_t(random.draws)}}},
                 {"epoch", s.epoch},
                 {"batch", s.batch},
                 {"step", s.step},
                 {"loss_sum", s.loss_sum},
                 {"seconds", s.seconds},
                 {"correct", s.correct},
                 {"seen", s.seen},
                 {"best_accuracy", s.best_accuracy},
                 {"metrics", std::move(rows)}},
            note);
}

TrainState load_checkpoint(const std::string& path, Module& module, Optimizer& optimizer, const Statefuls& observers) {
  return load_checkpoint(pth::load(path), path, module, optimizer, observers);
}

TrainState load_checkpoint(const Value& value, const std::string& path, Module& module, Optimizer& optimizer,
                           const Statefuls& observers) {
  TrainState s;
  for (auto& [key, field] : {std::pair{"epoch", &s.epoch},
                             {"batch", &s.batch},
                             {"step", &s.step},
                             {"correct", &s.correct},
                             {"seen", &s.seen}}) {
    *field = get<int64_t>(value, key, path);
    if (*field < 0) fail(ErrorKind::data, "[checkpoint] ", path, " has a negative \"", key, "\"");
  }
  s.loss_sum = get<double>(value, "loss_sum", path);
  s.seconds = get<double>(value, "seconds", path);
  s.best_accuracy = get<double>(value, "best_accuracy", path);
  for (const Value& row : get<pth::List>(value, "metrics", path)) s.rows.push_back(to_row(row, path));
  const Value random = get<Dict>(value, "random", path);
  const RandomState draws{uint64_t(get<int64_t>(random, "seed", path)), uint64_t(get<int64_t>(random, "draws", path))};
  load_observers(value, path, observers);

  const pth::StateDict ports = pth::state_dict(get<Dict>(value, "ports", path), path);
  const pth::StateDict mine = port_tensors(module);
  std::map<std::string, Tensor> here(mine.begin(), mine.end());
  for (const auto& [name, t] : ports) {
    const auto it = here.find(name);
    if (it == here.end() || it->second.shape() != t.shape() || it->second.dtype() != t.dtype())
      fail(ErrorKind::data, "[checkpoint] ", path, " has ", name, ' ', t.dtype(), t.shape(),
           ", for which the model has no place: it was saved with other masks");
  }
  if (here.size() != ports.size())
    fail(ErrorKind::data, "[checkpoint] ", path, " has ", ports.size(), " tensors of masks, the model ", here.size());

  load_state_dict(module, pth::state_dict(get<Dict>(value, "model", path), path));
  for (const auto& [name, t] : ports) here.at(name).copy_from(t);
  optimizer.load(get<Dict>(value, "optimizer", path));
  random_state() = draws;
  return s;
}

}  // namespace espalier
