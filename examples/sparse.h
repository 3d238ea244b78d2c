// What the tools say about models with single zeros among their weights: which format runs each layer, and what that
// gains over the dense engine - measured, beside what the table promised.
#pragma once
#include "setup.h"

namespace espalier::tool {

// Has a layer's weight, under its masks, zeros that are no channel's as a whole?
bool is_sparse(Module& model);

struct SparseComparison {
  struct Layer {
    std::string name, format;
    double density = 1, dense_ms = 0, sparse_ms = 0, promised = 1;
  };
  struct Batch {
    int64_t size;
    std::vector<Layer> layers;  // those that have zeros
    Latency dense, sparse;      // of the whole model, taking turns
  };
  std::vector<Batch> batches;
  int64_t packed_bytes = 0;  // of the .pth file with packed weights
};
SparseComparison compare_sparse(Module& model, const ModelInfo& info, const EngineOptions& options,
                                const std::vector<int64_t>& batches, int n);
std::ostream& operator<<(std::ostream& out, const SparseComparison& comparison);
nlohmann::ordered_json to_json(const SparseComparison& comparison);

// --sparse-table --tune
void add_sparse_options(cxxopts::OptionAdder& add);
// The shipped table, or that of --sparse-table; throws usage where --tune is given beside it.
std::shared_ptr<const SparseTable> sparse_table(const Context& context);
// One that is measured for this model, with this process's threads.
std::shared_ptr<const SparseTable> tuned_table(const Context& context, Module& model, const ModelInfo& info,
                                               const std::vector<int64_t>& batches);

}  // namespace espalier::tool
