// What sparse products are worth here: times every kind of product of the bundled networks (or of those named) beside
// the dense one and writes the table as JSON. benchmarks/sparse_map runs this for each instruction set and makes of it
// core/cpu/sparse_table.cpp, the table that ships. Usage: bench_sparse_map OUT.json [SECONDS [MODEL ...]]
#include <espalier/compress/sparse_tune.h>
#include <espalier/core/parallel.h>
#include <espalier/nn/init.h>
#include <espalier/nn/models.h>
#include <espalier/nn/trace.h>

#include <iostream>
#include <set>

#include "batch.h"

using namespace espalier;

int main(int argc, char** argv) {
  try {
    if (argc < 2) {
      std::cerr << "usage: bench_sparse_map OUT.json [SECONDS [MODEL ...]]\n";
      return 2;
    }
    set_num_threads(1);
    std::vector<std::string> names(argv + std::min(argc, 3), argv + argc);
    if (names.empty())
      for (const ModelInfo& info : model_list()) names.push_back(info.name);
    std::set<geometry::Conv> all;
    for (const std::string& name : names) {
      const SkipInit skip;
      const auto model = make_model(name);
      model->eval();
      for (const geometry::Conv& g : sparse_layers(trace(*model, images(model_info(name).input, 1)))) all.insert(g);
    }
    TuneOptions options;
    if (argc > 2) options.seconds = std::stod(argv[2]);
    options.progress = [](int64_t done, int64_t of) {
      if (done % 10 == 0) std::cerr << done << " of " << of << " rows\n";
    };
    save_sparse_table(argv[1], tune({all.begin(), all.end()}, options));
    return 0;
  } catch (const Error& e) {
    std::cerr << "bench_sparse_map: " << e.what() << "\n";
    return e.exit_code();
  }
}
