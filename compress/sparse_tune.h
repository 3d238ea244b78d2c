// Tables of what sparse products are worth (core/sparse.h), measured on this machine and kept in files. This is the
// only place where a clock has a say; a run that is given the same table gives the same bits.
#pragma once
#include <espalier/core/graph.h>
#include <espalier/core/sparse.h>

#include <functional>
#include <string>
#include <vector>

namespace espalier {

// The products of a graph that could be run sparse, each geometry once, for one image.
ESPALIER_API std::vector<geometry::Conv> sparse_layers(const Graph& graph);

// What tune() times.
struct TuneOptions {
  // Numbers of images at once.
  std::vector<int64_t> batches{SparseTable::batches.begin(), SparseTable::batches.end()};
  double seconds = 0.05;  // of interleaved runs for each weight
  // Called before every row, with how many are done and how many there are.
  std::function<void(int64_t done, int64_t all)> progress;
};
// Times random weights of some densities beside the dense product, with this process's threads and instructions.
ESPALIER_API SparseTable tune(const std::vector<geometry::Conv>& layers, const TuneOptions& options = {});

// JSON. load_sparse_table() and, of a text, parse_sparse_table(): throw data, naming what is wrong, on a file that is
// no table; `name` stands for it.
ESPALIER_API void save_sparse_table(const std::string& path, const SparseTable& table);
ESPALIER_API SparseTable load_sparse_table(const std::string& path);
ESPALIER_API SparseTable parse_sparse_table(std::string_view text, const std::string& name);

}  // namespace espalier
