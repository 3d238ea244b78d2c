// Columns to series, titles and units.
#include <espalier/compress/report/figures.h>
#include <espalier/core/error.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>

namespace espalier {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

std::vector<double> places(size_t n, double first = 0) {
  std::vector<double> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = first + double(i);
  return x;
}

std::vector<double> percent(std::vector<double> v) {
  for (double& x : v) x *= 100;
  return v;
}

bool known(const std::vector<double>& v) {
  return std::any_of(v.begin(), v.end(), [](double x) { return std::isfinite(x); });
}

// Every second row of a table of many columns is a group's name; long ones would leave no room for the plot.
std::string shortened(const std::string& text, size_t most = 34) {
  return text.size() <= most ? text : text.substr(0, most - 2) + "..";
}

}  // namespace

Figure training_figure(const Table& metrics, const std::string& title) {
  // By the number of epochs that have been: the first row is what one epoch gave.
  const auto x = places(metrics.rows.size(), 1);
  const auto test_loss = metrics.numbers("test_loss");
  Panel loss{.title = "loss", .x = {.label = "epochs"}, .y = {.label = "mean loss"}};
  Panel accuracy{.title = "accuracy", .x = {.label = "epochs"}, .y = {.label = "accuracy, %"}};
  loss.series.push_back({.label = "training", .x = x, .y = metrics.numbers("train_loss")});
  accuracy.series.push_back({.label = "training", .x = x, .y = percent(metrics.numbers("train_accuracy"))});
  if (known(test_loss)) {
    loss.series.push_back({.label = "test", .x = x, .y = test_loss});
    accuracy.series.push_back({.label = "test", .x = x, .y = percent(metrics.numbers("test_accuracy"))});
  }
  Panel rate{.title = "learning rate", .x = {.label = "epochs"}, .y = {.label = "learning rate", .log = true}};
  rate.series.push_back({.x = x, .y = metrics.numbers("lr")});
  return {.title = title, .panels = {loss, accuracy, rate}, .width = 1200, .height = 400};
}

Figure kept_figure(const Table& layers, const std::string& title) {
  const auto total = layers.numbers("total"), kept = layers.numbers("kept");
  double all = 0, left = 0, most = 0;
  for (size_t i = 0; i < total.size(); ++i) {
    all += total[i];
    left += kept[i];
    most = std::max(most, total[i]);
  }
  char text[80];
  std::snprintf(text, sizeof text, "%.0f of %.0f kept (%.1f %%)", left, all, all > 0 ? 100 * left / all : 0);
  Panel panel{.title = text,
              .x = {.categories = layers.texts("layer")},
              .y = {.label = most > 4096 ? "weights" : "channels", .low = 0}};
  const auto x = places(total.size());
  panel.series.push_back(
      {.label = "before", .style = Series::bars, .x = x, .y = total, .color = Color{0.8, 0.84, 0.9}});
  panel.series.push_back({.label = "kept", .style = Series::bars, .x = x, .y = kept, .color = Color{0, 0.35, 0.65}});
  return {.title = title,
          .panels = {panel},
          .width = std::clamp(160 + 26. * double(total.size()), 640., 1600.),
          .height = 460};
}

Figure sensitivity_figure(const Table& rows, const std::string& title, double unpruned) {
  std::vector<double> sparsity;
  for (size_t i = 1; i < rows.columns.size(); ++i) {
    const std::string& s = rows.columns[i];
    double x = nan;
    std::from_chars(s.data(), s.data() + s.size(), x);
    if (!std::isfinite(x)) fail(ErrorKind::data, "[report] column \"", s, "\" is no sparsity");
    sparsity.push_back(100 * x);
  }
  Panel panel{.x = {.label = "pruned away of this layer alone, %"}, .y = {.label = "metric"}};
  const auto names = rows.texts(rows.columns.at(0));
  for (size_t r = 0; r < names.size(); ++r) {
    Series series{.label = shortened(names[r]), .style = Series::both};
    if (std::isfinite(unpruned)) {
      series.x = {0};
      series.y = {unpruned};
    }
    for (size_t i = 0; i < sparsity.size() && i + 1 < rows.rows[r].size(); ++i) {
      const std::string& s = rows.rows[r][i + 1];
      double y = nan;
      std::from_chars(s.data(), s.data() + s.size(), y);
      series.x.push_back(sparsity[i]);
      series.y.push_back(y);
    }
    panel.series.push_back(std::move(series));
  }
  if (std::isfinite(unpruned)) panel.marks = {unpruned};
  return {.title = title, .panels = {panel}, .width = 960, .height = 560};
}

Figure pareto_figure(const Table& networks, const std::string& title) {
  struct Price {
    const char *column, *label;
  };
  const Price prices[] = {{"parameters", "parameters"},
                          {"flops", "multiply-adds for one image"},
                          {"bytes", "file, bytes"},
                          {"latency_ms", "latency, ms per image"}};
  const auto labels = networks.texts("label");
  const auto accuracy = percent(networks.numbers("accuracy"));
  const auto families = networks.find("family") < 0 ? labels : networks.texts("family");
  Figure figure{.title = title, .height = 480};
  double highest = 0;
  for (const double a : accuracy)
    if (a > highest) highest = a;  // nothing is better than 100 %: no room above it
  const auto ceiling = highest > 97 ? std::optional<double>(100.5) : std::nullopt;
  for (const Price& price : prices) {
    if (networks.find(price.column) < 0) continue;
    const auto cost = networks.numbers(price.column);
    Panel panel{.x = {.label = price.label, .log = true}, .y = {.label = "test accuracy, %", .high = ceiling}};
    std::vector<std::pair<double, double>> best;  // nobody is cheaper and as good
    std::map<std::string, size_t> place;
    for (size_t i = 0; i < labels.size(); ++i) {
      if (!(cost[i] > 0) || !std::isfinite(accuracy[i])) continue;
      bool beaten = false;
      for (size_t k = 0; k < labels.size(); ++k)
        beaten |= cost[k] <= cost[i] && accuracy[k] >= accuracy[i] && (cost[k] < cost[i] || accuracy[k] > accuracy[i]);
      if (!beaten) best.push_back({cost[i], accuracy[i]});
      const auto [it, first] = place.emplace(families[i], panel.series.size());
      if (first)
        panel.series.push_back({.label = networks.find("family") < 0 ? "" : families[i], .style = Series::points});
      Series& series = panel.series[it->second];
      series.x.push_back(cost[i]);
      series.y.push_back(accuracy[i]);
      series.names.push_back(labels[i]);
    }
    std::sort(best.begin(), best.end());
    Series front{.label = "nobody is cheaper and as good", .dashed = true, .color = Color{0.55, 0.55, 0.55}};
    for (const auto& [x, y] : best) {
      front.x.push_back(x);
      front.y.push_back(y);
    }
    panel.series.insert(panel.series.begin(), std::move(front));  // behind the points
    figure.panels.push_back(std::move(panel));
  }
  if (figure.panels.empty())
    fail(ErrorKind::data,
         "[report] there is no column parameters, flops, bytes or latency_ms to draw accuracy against");
  figure.width = figure.panels.size() == 1 ? 720 : 560 * double(figure.panels.size());
  return figure;
}

Figure search_figure(const Table& history, const std::string& title) {
  const auto performance = history.numbers("performance"), sparsity = history.numbers("sparsity");
  const auto x = places(performance.size());
  std::vector<double> best(performance.size(), nan);
  for (size_t i = 0; i < best.size(); ++i)
    best[i] = i && !(performance[i] > best[i - 1]) ? best[i - 1] : performance[i];
  Panel found{.title = "performance", .x = {.label = "candidate"}, .y = {.label = "performance"}};
  found.series.push_back({.label = "candidate", .style = Series::points, .x = x, .y = performance});
  found.series.push_back({.label = "best so far", .x = x, .y = best});
  Panel asked{.title = "sparsity", .x = {.label = "candidate"}, .y = {.label = "pruned away, %"}};
  asked.series.push_back({.style = Series::points, .x = x, .y = percent(sparsity)});
  return {.title = title, .panels = {found, asked}, .width = 1000, .height = 420};
}

namespace {

Panel heat_panel(std::string title, std::vector<std::string> rows, std::vector<std::string> columns,
                 std::vector<std::vector<double>> cells) {
  Panel panel{.title = std::move(title),
              .x = {.label = "zeros", .categories = std::move(columns)},
              .y = {.categories = std::move(rows)}};
  panel.heat.cells = std::move(cells);
  return panel;
}

// What benchmarks/sparse_map writes: lines of time / dense time over density, per product, batch and instruction set.
Figure lines_figure(const Table& map, const std::string& title) {
  const std::vector<double> zeros{0.5, 0.6, 0.7, 0.8, 0.9, 0.95};
  std::vector<std::string> columns;
  for (const double z : zeros) columns.push_back(std::to_string(int(std::lround(100 * z))) + " %");
  const auto isa = map.texts("avx512"), batch = map.texts("batch"), c = map.texts("c"), o = map.texts("o"),
             side = map.texts("map"), kernel = map.texts("kernel"), stride = map.texts("stride");
  const bool wide = std::any_of(isa.begin(), isa.end(), [](const std::string& t) { return t == "True"; });
  Figure figure{.title = title, .width = 1300};
  for (const char* kind : {"lanes", "blocks"}) {
    const auto fixed = map.numbers(std::string(kind) + "_fixed"), slope = map.numbers(std::string(kind) + "_slope");
    std::vector<std::string> rows;
    std::vector<std::vector<double>> cells;
    for (size_t r = 0; r < map.rows.size(); ++r) {
      if (wide && isa[r] != "True") continue;
      rows.push_back(c[r] + " to " + o[r] + ", " + kernel[r] + "x" + kernel[r] + "/" + stride[r] + " on " + side[r] +
                     ", batch " + batch[r]);
      cells.emplace_back();
      for (const double z : zeros) cells.back().push_back(1 / (fixed[r] + slope[r] * (1 - z)));
    }
    figure.height = std::clamp(120 + 17. * double(rows.size()), 240., 4000.);
    figure.panels.push_back(heat_panel(std::string(kind) + ": times faster than dense; blue: slower", std::move(rows),
                                       columns, std::move(cells)));
  }
  return figure;
}

}  // namespace

Figure break_even_figure(const Table& map, const std::string& title) {
  if (map.find("lanes_fixed") >= 0) return lines_figure(map, title);
  const std::vector<std::string> columns(map.columns.begin() + 1, map.columns.end());
  std::vector<std::vector<double>> cells(map.rows.size());
  for (const std::string& column : columns) {
    const auto numbers = map.numbers(column);
    for (size_t r = 0; r < cells.size(); ++r) cells[r].push_back(numbers[r]);
  }
  return {.title = title,
          .panels = {heat_panel("times faster than dense; blue: slower", map.texts(map.columns.at(0)), columns, cells)},
          .width = std::clamp(280 + 56. * double(columns.size()), 640., 1400.),
          .height = std::clamp(120 + 22. * double(map.rows.size()), 240., 1600.)};
}

std::vector<std::string> figure_kinds() {
  return {"training", "kept", "sensitivity", "pareto", "search", "break-even"};
}

Figure figure_of(const Table& table, const std::string& wanted, const std::string& title) {
  const auto has = [&](const char* column) { return table.find(column) >= 0; };
  const std::string kind = !wanted.empty()                         ? wanted
                           : has("train_loss")                     ? "training"
                           : has("layer") && has("kept")           ? "kept"
                           : table.columns.at(0) == "layername"    ? "sensitivity"
                           : has("label") && has("accuracy")       ? "pareto"
                           : has("performance") && has("sparsity") ? "search"
                           : has("lanes_fixed")                    ? "break-even"
                                                                   : "";
  if (kind == "training") return training_figure(table, title);
  if (kind == "kept") return kept_figure(table, title);
  if (kind == "sensitivity") return sensitivity_figure(table, title, nan);
  if (kind == "pareto") return pareto_figure(table, title);
  if (kind == "search") return search_figure(table, title);
  if (kind == "break-even") return break_even_figure(table, title);
  fail(ErrorKind::data, "[report] these columns tell of none of the pictures that there are");
}

}  // namespace espalier
