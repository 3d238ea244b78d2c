// The tool `report`, which draws pictures from CSV files, and what the others use to draw theirs.
#include "report.h"

#include <espalier/compress/mask.h>
#include <espalier/core/io/file.h>

#include <algorithm>
#include <filesystem>

#include "tools.h"

using namespace espalier;

namespace {

void write_pictures(const std::string& path, const Figure& figure) {
  if (!has_cairo()) return;
  write_file(path + ".svg", render(figure, Picture::svg));
  write_file(path + ".png", render(figure, Picture::png));
}

void draw_files(tool::Context& c) {
  if (!c.given("csv")) fail(ErrorKind::usage, "[report] expected --csv FILE");
  const std::string kind = c.given("kind") ? c.choice("kind", figure_kinds()) : "";
  const Table table = read_csv(c.text("csv"));
  const std::string stem = std::filesystem::path(c.text("csv")).stem().string();
  const Figure figure = figure_of(table, kind, c.given("title") ? c.text("title") : stem);
  if (!has_cairo()) fail(ErrorKind::other, "[report] this build has no Cairo (libcairo2-dev), which draws pictures");
  c.make_out({stem + ".csv", stem + ".svg", stem + ".png"});
  write_file(c.out(stem + ".csv"), table.csv());
  write_pictures(c.out(stem), figure);
  c.say() << "written to " << c.text("out") << ": " << stem << ".svg, " << stem << ".png" << std::endl;
  c.summary = {{"csv", c.text("csv")}, {"rows", table.rows.size()}};
}

}  // namespace

std::vector<std::string> tool::report_files(const std::string& name) {
  std::vector<std::string> files{"report/" + name + ".csv"};
  if (has_cairo()) files.insert(files.end(), {"report/" + name + ".svg", "report/" + name + ".png"});
  return files;
}

void tool::write_report(const Context& c, const std::string& name, const Table& table, const Figure& figure) {
  write_file(c.out("report/" + name + ".csv"), table.csv());
  write_pictures(c.out("report/" + name), figure);
}

Table tool::kept_table(Module& model) {
  struct Layer {
    std::string name;
    int64_t channels, kept_channels, weights, kept_weights;
  };
  std::vector<Layer> layers;
  bool whole = true;
  for (auto& [name, mask] : masks_of(model)) {
    if (!name.ends_with(".weight") || mask.rank() < 2) continue;
    const auto values = mask.to_vector();
    const size_t rows = size_t(mask.dim(0)), each = values.size() / std::max<size_t>(rows, 1);
    Layer layer{name.substr(0, name.size() - 7), int64_t(rows), 0, int64_t(values.size()), 0};
    for (size_t r = 0; r < rows; ++r) {
      const auto begin = values.begin() + ptrdiff_t(r * each);
      const int64_t ones = std::count(begin, begin + ptrdiff_t(each), 1.f);
      layer.kept_weights += ones;
      layer.kept_channels += ones > 0;
      whole = whole && (ones == 0 || ones == int64_t(each));
    }
    layers.push_back(layer);
  }
  Table table{{"layer", "total", "kept"}, {}};
  for (const Layer& l : layers)
    table.rows.push_back({l.name, std::to_string(whole ? l.channels : l.weights),
                          std::to_string(whole ? l.kept_channels : l.kept_weights)});
  return table;
}

void tool::write_training_report(const Context& c, const std::string& name, const std::string& folder,
                                 const std::string& title) {
  const std::string metrics = c.out(folder.empty() ? "metrics.csv" : folder + "/metrics.csv");
  if (!std::filesystem::exists(metrics)) return;
  const Table table = read_csv(metrics);
  if (!table.rows.empty()) write_report(c, name, table, training_figure(table, title));
}

int tool::report_main(int argc, char** argv) {
  return run(
      argc, argv,
      {.name = "report",
       .what =
           "Draws a picture, as SVG and PNG, from a CSV file: training curves (metrics.csv), what layers keep\n"
           "(layer,total,kept), NNI's sensitivity.csv, accuracy against size and latency (label,accuracy and any of\n"
           "parameters,flops,bytes,latency_ms; a column family colours), search_history.csv, a break-even map. The\n"
           "columns tell which, or --kind does. The other tools draw theirs into OUT/report.\n",
       .examples = "  report --csv out/vgg19/metrics.csv --title \"VGG-19 on CIFAR-10\" --out out/curves\n"
                   "  report --csv networks.csv --title \"The quickstart's networks\" --out out/picture\n"
                   "  report --csv map.csv --kind break-even --out out/map"},
      [](cxxopts::OptionAdder& add) {
        add("csv", "the table", cxxopts::value<std::string>(), "FILE")(
            "kind", listed(figure_kinds()) + " (default: what the columns tell)", cxxopts::value<std::string>(),
            "NAME")("title", "above the picture (default: the file's name)", cxxopts::value<std::string>(), "TEXT");
      },
      draw_files);
}
