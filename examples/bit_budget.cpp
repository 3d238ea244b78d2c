// The search is the library's (bit_search.h); what it chose is kept, because a clock does not say the same twice.
#include "bit_budget.h"

#include <espalier/core/io/file.h>
#include <espalier/nn/trace.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <set>

namespace espalier::tool {

namespace {

constexpr double leave = 1.05;  // of the asked milliseconds, for the spread of medians
constexpr size_t largest_file = 1 << 20;

BitMeasurements read_measurements(const std::string& path, Module& module) {
  const auto text = read_file(path, largest_file);
  const auto json = nlohmann::json::parse(text.begin(), text.end(), nullptr, false);
  try {
    BitMeasurements m;
    m.other_ms = json.at("other_ms").get<double>();
    m.float_bytes = json.at("float_bytes").get<double>();
    for (const auto& layer : json.at("layers")) {
      LayerBits l{layer.at("layer").get<std::string>(), {}};
      for (const auto& c : layer.at("choices"))
        l.choices.push_back({c.at("bits").get<int64_t>(), c.at("loss").get<double>(), c.at("bytes").get<double>(),
                             c.at("ms").get<double>()});
      m.layers.push_back(std::move(l));
    }
    const auto sound = [](double x) { return std::isfinite(x) && x >= 0; };
    bool all = m.float_bytes > 0 && sound(m.float_bytes) && sound(m.other_ms) && !m.layers.empty();
    std::set<std::string> parameters;
    for (auto& [name, p] : named_parameters(module)) parameters.insert(name);
    for (const LayerBits& l : m.layers) {
      all = all && !l.choices.empty() && parameters.erase(l.layer + ".weight") == 1;
      for (const BitChoice& c : l.choices)
        all = all && c.bits >= 1 && c.bits <= 8 && std::isfinite(c.loss) && sound(c.bytes) && sound(c.ms);
    }
    if (all) return m;
  } catch (const nlohmann::json::exception&) {}
  fail(ErrorKind::data, "[--budget] ", path, " is not what this tool writes; remove it and choose anew");
}

std::string text_of(const BitMeasurements& m, const BitPlan& plan) {
  const std::map<std::string, int64_t> chosen(plan.bits.begin(), plan.bits.end());
  nlohmann::ordered_json json{{"float_bytes", m.float_bytes},
                              {"other_ms", m.other_ms},
                              {"loss", plan.loss},
                              {"bytes", plan.bytes},
                              {"ms", plan.ms}};
  for (const LayerBits& l : m.layers) {
    nlohmann::ordered_json layer{{"layer", l.layer}, {"bits", chosen.at(l.layer)}};
    for (const BitChoice& c : l.choices)
      layer["choices"].push_back({{"bits", c.bits}, {"loss", c.loss}, {"bytes", c.bytes}, {"ms", c.ms}});
    json["layers"].push_back(std::move(layer));
  }
  return json.dump(1) + "\n";
}

void print(std::ostream& out, const BitMeasurements& m, const BitPlan& plan) {
  char line[160];
  std::snprintf(line, sizeof line, "%-28s %5s %12s %10s\n", "layer", "bits", "bytes", "loss");
  out << line;
  for (size_t l = 0; l < m.layers.size(); ++l)
    for (const BitChoice& c : m.layers[l].choices)
      if (c.bits == plan.bits[l].second) {
        std::snprintf(line, sizeof line, "%-28s %5lld %12.0f %+10.5f\n", m.layers[l].layer.c_str(), (long long)c.bits,
                      c.bytes, c.loss);
        out << line;
      }
  std::snprintf(line, sizeof line, "weights: %.0f bytes, %.3f of their floats; loss %+.5f expected", plan.bytes,
                plan.bytes / m.float_bytes, plan.loss);
  out << line;
  if (plan.ms > 0) out << ", " << plan.ms << " ms";
  out << std::endl;
}

}  // namespace

void check_budget(const Context& c) {
  int64_t batch = 0;
  parse_budget(c.text("budget"), 1, batch);
}

ChosenBits choose_bits_for(Context& c, Module& module, const Tensor& images, bool out_made) {
  const std::string path = out_made ? c.out("bits.json") : "";
  ChosenBits chosen;
  BitMeasurements measured;
  parse_budget(c.text("budget"), 1, chosen.latency_batch);
  if (c.resume() && out_made && std::filesystem::exists(path)) {
    measured = read_measurements(path, module);
  } else {
    c.say() << "measuring what fewer bits cost, layer by layer, on " << images.dim(0) << " images" << std::endl;
    const EvalMode eval(module);
    measured = measure_bits(trace(module, images), {images}, {.latency_batch = chosen.latency_batch});
    leave_if_stopped(how_to_go_on);
  }
  const BitBudget budget = parse_budget(c.text("budget"), measured.float_bytes, chosen.latency_batch);
  chosen.plan = choose_bits(measured, budget);
  if (!std::isinf(budget.ms)) chosen.ms = budget.ms;
  print(c.say(), measured, chosen.plan);
  chosen.file = text_of(measured, chosen.plan);
  if (out_made) write_file(path, chosen.file);
  nlohmann::ordered_json& json = c.summary["budget"];
  json = {{"asked", c.text("budget")},
          {"bytes", chosen.plan.bytes},
          {"of_float", chosen.plan.bytes / measured.float_bytes},
          {"expected_loss", chosen.plan.loss}};
  if (chosen.ms > 0) json["expected_ms"] = chosen.plan.ms;
  for (const auto& [layer, bits] : chosen.plan.bits) json["bits"][layer] = bits;
  return chosen;
}

void check_kept(Context& c, const ChosenBits& chosen, const QuantizedComparison& measured) {
  if (chosen.ms == 0) return;
  for (size_t i = 0; i < measured.batches.size(); ++i) {
    if (measured.batches[i] != chosen.latency_batch) continue;
    const double ms = measured.integer.latency[i].median;
    c.summary["budget"]["measured_ms"] = ms;
    c.summary["budget"]["kept"] = ms <= leave * chosen.ms;
    if (ms <= leave * chosen.ms) return;
    c.write_summary(false);
    fail(ErrorKind::other, "[--budget] missed: ", chosen.latency_batch, " image(s) take ", ms, " ms, ", chosen.ms,
         " were asked for (", ms / chosen.ms, " of them); everything was written");
  }
}

}  // namespace espalier::tool
