// The pictures of this project, each made from a table: what the tools draw beside their CSV files, and what `report`
// draws from files of one's own. A table's columns say which picture it is.
#pragma once
#include <espalier/compress/report/plot.h>
#include <espalier/compress/report/table.h>

#include <string>
#include <vector>

namespace espalier {

// metrics.csv: loss, accuracy and learning rate by epoch, training and test.
ESPALIER_API Figure training_figure(const Table& metrics, const std::string& title);
// Columns layer, total, kept: what every layer keeps of its channels or weights.
ESPALIER_API Figure kept_figure(const Table& layers, const std::string& title);
// NNI's sensitivity.csv (layername, then sparsities): the metric against the sparsity, a line per layer. `unpruned` is
// the metric without pruning, NaN if it is not known.
ESPALIER_API Figure sensitivity_figure(const Table& rows, const std::string& title, double unpruned);
// Columns label, accuracy (0 to 1), and any of parameters, flops, bytes, latency_ms, each a panel: who is better than
// whom, and at what price. The line joins those that nobody beats in both. A column "family" colours.
ESPALIER_API Figure pareto_figure(const Table& networks, const std::string& title);
// search_history.csv: performance by candidate, the best so far, and the sparsity.
ESPALIER_API Figure search_figure(const Table& history, const std::string& title);
// The break-even map that benchmarks/sparse_map --csv writes; or a first column with names, then a column per density
// or sparsity. Cells say how many times faster than dense; at 1 it begins to pay.
ESPALIER_API Figure break_even_figure(const Table& map, const std::string& title);

// By name: training, kept, sensitivity, pareto, search, break-even. "": which one the columns tell; throws data where
// they tell none.
ESPALIER_API Figure figure_of(const Table& table, const std::string& kind, const std::string& title);
ESPALIER_API std::vector<std::string> figure_kinds();  // these names

}  // namespace espalier
