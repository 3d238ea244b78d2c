// Two engines of one model, one of which takes zeros for numbers, side by side.
#include "sparse.h"

#include <espalier/compress/sparse_tune.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <cstdio>
#include <map>

namespace espalier::tool {

bool is_sparse(Module& model) {
  const NoGrad no_grad;
  for (auto& [name, p] : named_parameters(model)) {
    const Tensor seen = (*p)().detach().to(Device{});
    if (seen.rank() < 2 || seen.dtype() != DType::f32 || seen.numel() == 0) continue;
    // Filters and inputs that are zero as a whole are channels, which are cut, not skipped.
    const int64_t o = seen.dim(0), c = seen.dim(1), taps = seen.numel() / (o * c);
    const float* const w = seen.data();
    std::vector<char> filter(size_t(o), 0), input(size_t(c), 0);
    for (int64_t i = 0; i < seen.numel(); ++i)
      if (w[i] != 0) filter[size_t(i / (taps * c))] = input[size_t(i % c)] = 1;
    for (int64_t i = 0; i < seen.numel(); ++i)
      if (w[i] == 0 && filter[size_t(i / (taps * c))] && input[size_t(i % c)]) return true;
  }
  return false;
}

SparseComparison compare_sparse(Module& model, const ModelInfo& info, const EngineOptions& options,
                                const std::vector<int64_t>& batches, int n) {
  EngineOptions without = options;
  without.sparse = false;
  Running dense(model, info, without), sparse(model, info, options);
  std::map<std::string, double> density;
  for (const GraphValue& v : dense.engine().graph().values) {
    if (v.kind != GraphValue::result || v.inputs.size() < 2) continue;
    if (!v.op->name().starts_with("conv2d") && !v.op->name().starts_with("linear")) continue;
    const Tensor& w = dense.engine().graph().values[size_t(v.inputs[1])].value;
    if (w.defined() && w.dtype() == DType::f32) density[v.name] = sparsity_of(w).elements;
  }
  SparseComparison all;
  for (const int64_t size : batches) {
    SparseComparison::Batch batch{size, {}, {}, {}};
    const Tensor x = random_images(info, size);
    std::map<std::string, double> dense_ms;
    for (const Engine::Layer& l : dense.engine().report({x}, n)) dense_ms[l.name] = l.ms;
    for (const Engine::Layer& l : sparse.engine().report({x}, n)) {
      const auto found = density.find(l.name);
      if (found == density.end() || found->second == 1) continue;
      batch.layers.push_back(
          {l.name, l.format.empty() ? "dense" : l.format, found->second, dense_ms[l.name], l.ms, l.gain});
    }
    const auto times = latencies({&dense.module(), &sparse.module()}, x, size == 1 ? 5 * n : n);
    batch.dense = times[0], batch.sparse = times[1];
    all.batches.push_back(std::move(batch));
  }
  return all;
}

std::ostream& operator<<(std::ostream& out, const SparseComparison& c) {
  char line[256];
  for (const SparseComparison::Batch& b : c.batches) {
    size_t width = 5;
    for (const auto& l : b.layers) width = std::max(width, l.name.size());
    const int name = int(width);
    std::snprintf(line, sizeof line, "%-*s  weights  format   dense ms  sparse ms     gain  promised\n", name, "layer");
    out << "single zeros at batch " << b.size << ":\n" << line;
    for (const auto& l : b.layers) {
      std::snprintf(line, sizeof line, "%-*s  %6.1f%%  %-7s %9.3f  %9.3f  %6.2fx  %7.2fx\n", name, l.name.c_str(),
                    100 * l.density, l.format.c_str(), l.dense_ms, l.sparse_ms, l.dense_ms / l.sparse_ms, l.promised);
      out << line;
    }
    std::snprintf(line, sizeof line, "%-*s                    %9.3f  %9.3f  %6.2fx\n", name, "model", b.dense.median,
                  b.sparse.median, b.dense.median / b.sparse.median);
    out << line;
    if (b.dense.wide() || b.sparse.wide())
      out << "warning: these times spread widely: the machine was busy, and their ratio says little\n";
  }
  return out << "packed file, bytes: " << c.packed_bytes << '\n';
}

nlohmann::ordered_json to_json(const SparseComparison& c) {
  nlohmann::ordered_json json{{"packed_bytes", c.packed_bytes}};
  for (const SparseComparison::Batch& b : c.batches) {
    nlohmann::ordered_json layers = nlohmann::ordered_json::array();
    for (const auto& l : b.layers)
      layers.push_back({{"name", l.name},
                        {"density", l.density},
                        {"format", l.format},
                        {"dense_ms", l.dense_ms},
                        {"sparse_ms", l.sparse_ms},
                        {"promised", l.promised}});
    json["batch_" + std::to_string(b.size)] = {
        {"dense_ms", b.dense.median}, {"sparse_ms", b.sparse.median}, {"layers", std::move(layers)}};
  }
  return json;
}

void add_sparse_options(cxxopts::OptionAdder& add) {
  add("sparse-table", "where sparse layers pay, as --tune wrote it (default: a table that ships)",
      cxxopts::value<std::string>(),
      "FILE")("tune", "time this model's layers on this machine, sparse and dense, and write OUT/sparse_table.json");
}

std::shared_ptr<const SparseTable> sparse_table(const Context& c) {
  if (!c.given("sparse-table")) return SparseTable::shipped();
  if (c.flag("tune")) fail(ErrorKind::usage, "[--tune] measures a table; --sparse-table gives one");
  return std::make_shared<const SparseTable>(load_sparse_table(c.text("sparse-table")));
}

std::shared_ptr<const SparseTable> tuned_table(const Context& c, Module& model, const ModelInfo& info,
                                               const std::vector<int64_t>& batches) {
  TuneOptions options;
  options.batches.clear();
  for (const int64_t b : SparseTable::batches)
    if (std::any_of(batches.begin(), batches.end(), [&](int64_t n) { return SparseTable::class_of(n) == b; }))
      options.batches.push_back(b);
  options.progress = [&](int64_t done, int64_t all) {
    leave_if_stopped("no table was written");
    if (done % 10 == 0) c.say() << "tuning: " << done << " of " << all << " rows" << std::endl;
  };
  return std::make_shared<const SparseTable>(tune(sparse_layers(trace(model, random_images(info, 1))), options));
}

}  // namespace espalier::tool
