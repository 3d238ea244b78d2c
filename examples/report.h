// What tools leave in OUT/report: a table as CSV and, where Cairo is there, its picture as SVG and PNG.
#pragma once
#include <espalier/compress/report/figures.h>
#include <espalier/nn/module.h>

#include "common.h"

namespace espalier::tool {

// The files that write_report(c, name, ..) makes, for make_out(): report/NAME.csv, .svg, .png.
std::vector<std::string> report_files(const std::string& name);
void write_report(const Context& context, const std::string& name, const Table& table, const Figure& figure);
// What a model's masks leave of every layer that has one: columns layer, total, kept, of channels where whole ones are
// masked, else of weights.
Table kept_table(Module& model);
// The picture of OUT/FOLDER/metrics.csv ("": OUT's own) as report/NAME; nothing where no epoch was finished.
void write_training_report(const Context& context, const std::string& name, const std::string& folder,
                           const std::string& title);

}  // namespace espalier::tool
