// Integers beside floats: counting, comparing, printing.
#include "quantized.h"

#include <espalier/compress/export/onnx.h>
#include <espalier/compress/quantize/codes.h>
#include <espalier/compress/quantize/exact.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/trace.h>

#include <cstdio>
#include <filesystem>
#include <map>
#include <sstream>

#include "report.h"

namespace espalier::tool {

Layers layers_of(const Graph& traced) {
  Layers layers;
  const Graph graph = fold_norm(traced);
  const std::vector<CodedValue> values = read_codes(graph);
  const auto is_layer = [&](size_t i) {
    const GraphValue& v = graph.values[i];
    return v.op && (v.op->name() == "conv2d" || v.op->name() == "linear");
  };
  for (size_t i = 0; i < values.size(); ++i) {
    if (is_layer(i)) ++layers.all;
    if (values[i].rule == CodedValue::layer) ++layers.in_integers;
    if (is_layer(i) && values[i].rule == CodedValue::floats)
      layers.floats.push_back(graph.values[i].name + ": " + values[i].why);
  }
  return layers;
}

nlohmann::ordered_json to_json(const Layers& l) {
  return {{"layers", l.all}, {"in_integers", l.in_integers}, {"float", l.floats}};
}

pth::Dict codes_of(const Engine& engine, BatchSource& images, Device device) {
  std::vector<std::string> names;
  std::map<std::string, std::vector<uint8_t>> values;
  std::map<std::string, Shape> shapes;
  images.start(0);
  for (Batch batch; images.next(batch);) {
    leave_if_stopped("the codes were not written");
    for (const auto& [name, t] : engine.codes({batch.images.to(device)})) {
      auto& all = values[name];
      if (all.empty()) names.push_back(name);
      const auto more = t.to(Device{}).to_vector<uint8_t>();
      all.insert(all.end(), more.begin(), more.end());
      const int64_t before = shapes.contains(name) ? shapes[name][0] : 0;
      shapes[name] = t.shape();
      shapes[name][0] += before;
    }
  }
  pth::Dict dict;
  for (const std::string& name : names) dict.emplace_back(name + ".codes", Tensor::from(values[name], shapes[name]));
  return dict;
}

CodesCheck check_codes(const Running& model, const Tensor& images) {
  CodesCheck check;
  check.images = images.dim(0);
  std::map<std::string, Tensor> meant;
  try {
    for (auto& [name, t] : exact(model.graph(), {images.to(Device{})}).codes) meant[name] = t;
  } catch (const Error& e) {
    check.why_not = e.what();
    return check;
  }
  for (const auto& [name, t] : model.engine().codes({images})) {
    const auto found = meant.find(name);
    if (found == meant.end()) continue;
    const auto mine = t.to(Device{}).to_vector<uint8_t>(), theirs = found->second.to_vector<uint8_t>();
    check.codes += int64_t(mine.size());
    for (size_t i = 0; i < mine.size(); ++i) check.differ += mine[i] != theirs[i];
  }
  return check;
}

ComparisonOptions::ComparisonOptions(const Context& c)
    : batches(c.integers("batch-sizes")),
      repeats(int(c.integer("repeats", 1, 100'000))),
      exact_images(c.integer("exact-images")) {
  for (const int64_t b : batches)
    if (b < 1) fail(ErrorKind::usage, "[--batch-sizes] expected at least 1, got ", b);
}

QuantizedComparison compare_quantized(const Context& c, Module& real, Module& quantized, const ModelInfo& info,
                                      BatchSource& test_set, const ComparisonOptions& options,
                                      const Evaluation* tested) {
  QuantizedComparison table;
  table.batches = options.batches;
  const Device device = c.device();
  Running real_runs(real, info, device), integer_runs(quantized, info, device);
  table.layers = layers_of(integer_runs.graph());
  table.real.test = test_as_it_is(c, real_runs.module(), test_set, loss_of(info));
  table.integer.test = tested ? *tested : test_as_it_is(c, integer_runs.module(), test_set, loss_of(info));
  const int n = options.repeats;
  for (const int64_t batch : options.batches) {
    const auto times = latencies({&real_runs.module(), &integer_runs.module()}, random_images(info, batch).to(device),
                                 batch == 1 ? 5 * n : n);
    table.real.latency.push_back(times[0]);
    table.integer.latency.push_back(times[1]);
  }
  Batch first;
  test_set.start(0);
  if (options.exact_images > 0 && test_set.next(first))
    table.codes = check_codes(integer_runs,
                              first.images.narrow(0, std::min(options.exact_images, first.images.dim(0))).to(device));
  return table;
}

std::ostream& operator<<(std::ostream& out, const QuantizedComparison& c) {
  char line[200];
  const auto row = [&](const std::string& what, const std::string& a, const std::string& b, const std::string& how) {
    std::snprintf(line, sizeof line, "%-22s %22s %22s %12s\n", what.c_str(), a.c_str(), b.c_str(), how.c_str());
    out << line;
  };
  const auto text = [&](const char* format, auto... values) {
    std::snprintf(line, sizeof line, format, values...);
    return std::string(line);
  };
  const auto ms = [&](const Latency& l) { return text("%.2f (%.2f-%.2f)", l.median, l.low, l.high); };
  row("", "float", c.layers.in_integers ? "integer" : "codes as floats", "");
  row("test accuracy", text("%.2f %%", 100 * c.real.test.accuracy), text("%.2f %%", 100 * c.integer.test.accuracy),
      text("%+.2f", 100 * (c.integer.test.accuracy - c.real.test.accuracy)));
  row("test loss", text("%.4f", c.real.test.loss), text("%.4f", c.integer.test.loss),
      text("%+.4f", c.integer.test.loss - c.real.test.loss));
  row(c.sized + ", bytes", std::to_string(c.real.bytes), std::to_string(c.integer.bytes),
      text("%.3fx", double(c.integer.bytes) / double(c.real.bytes)));
  for (size_t i = 0; i < c.batches.size(); ++i) {
    const Latency &a = c.real.latency[i], &b = c.integer.latency[i];
    row("batch " + std::to_string(c.batches[i]) + ", ms", ms(a), ms(b), text("%.2fx", a.median / b.median));
    if (a.wide() || b.wide())
      out << "warning: these times spread widely: the machine was busy, and their ratio says little\n";
  }
  row("layers in integers", "", text("%lld of %lld", (long long)c.layers.in_integers, (long long)c.layers.all), "");
  for (const std::string& why : c.layers.floats) out << "  float: " << why << '\n';
  if (c.codes.images && c.codes.why_not.empty())
    out << c.codes.differ << " of " << c.codes.codes << " codes of " << c.codes.images
        << " image(s) differ from exact()\n";
  else if (c.codes.images)
    out << "codes not compared: " << c.codes.why_not << '\n';
  return out << "ms: median (10th-90th percentile), taking turns, " << num_threads() << " threads\n";
}

nlohmann::ordered_json to_json(const QuantizedComparison& c) {
  const auto side = [&](const QuantizedComparison::Side& s) {
    nlohmann::ordered_json json{{"test", to_json(s.test)}, {c.sized + "_bytes", s.bytes}};
    for (size_t i = 0; i < c.batches.size(); ++i) {
      const Latency& l = s.latency[i];
      json["latency"]["batch_" + std::to_string(c.batches[i])] = nlohmann::ordered_json{
          {"median_ms", l.median}, {"p10_ms", l.low}, {"p90_ms", l.high}, {"n", l.n}, {"wide", l.wide()}};
    }
    return json;
  };
  nlohmann::ordered_json json{{"float", side(c.real)},
                              {"integer", side(c.integer)},
                              {"integers", to_json(c.layers)},
                              {c.sized + "_ratio", double(c.integer.bytes) / double(c.real.bytes)},
                              {"threads", num_threads()}};
  if (c.codes.images && c.codes.why_not.empty())
    json["exact"] = {{"images", c.codes.images}, {"codes", c.codes.codes}, {"differ", c.codes.differ}};
  else
    json["exact"] = c.codes.why_not.empty() ? nlohmann::ordered_json(nullptr) : nlohmann::ordered_json(c.codes.why_not);
  return json;
}

void write_integers_report(const Context& c, const QuantizedComparison& q, const std::string& title) {
  Table table{{"label", "accuracy", "bytes"}, {}};
  if (!q.batches.empty()) table.columns.push_back("latency_ms");  // of the first batch size
  for (const auto& [label, side] : {std::pair{"float", &q.real}, {"integer", &q.integer}}) {
    const auto text = [](double v) {
      std::ostringstream out;
      out << v;
      return out.str();
    };
    table.rows.push_back({label, text(side->test.accuracy), std::to_string(side->bytes)});
    if (!q.batches.empty()) table.rows.back().push_back(text(side->latency[0].median));
  }
  write_report(c, "integers", table, pareto_figure(table, title));
}

void add_comparison_options(cxxopts::OptionAdder& add) {
  add("batch-sizes", "to time", cxxopts::value<std::string>()->default_value("1,64"), "N,N,..")(
      "repeats", "forward passes to time (batch 1: five times as many)",
      cxxopts::value<std::string>()->default_value("11"),
      "N")("exact-images", "of a quantized model: test images on which every code is compared with exact()",
           cxxopts::value<std::string>()->default_value("2"), "N");
}

bool export_onnx_or_say(const Context& c, Module& model, const ModelInfo& info, const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  if (!has_onnx()) {
    c.say() << "no " << name << ": this build has no ONNX library (libonnx-dev)\n";
    return false;
  }
  try {
    export_onnx(trace(model, random_images(info, 1)), path, {.note = model_note(info)});
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::usage) throw;
    c.say() << "no " << name << ": " << e.what() << '\n';
    return false;
  }
  return true;
}

}  // namespace espalier::tool
