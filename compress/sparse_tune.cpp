// Measuring by minima of runs that take turns; a row's line lies above all that was measured, so that it promises no
// more than was seen.
#include <espalier/compress/sparse_tune.h>
#include <espalier/core/io/file.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/fused.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

namespace espalier {

namespace {

using Json = nlohmann::ordered_json;

bool is_linear(const geometry::Conv& g) { return g.h == 1 && g.w == 1 && g.kh == 1 && g.kw == 1; }

Tensor random_values(const Shape& shape, uint64_t stream) {
  std::vector<float> v(size_t(shape.numel()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = 2 * random_uniform(1, stream, i) - 1;
  return Tensor::from(v, shape);
}

// A weight of which a part is left; with `blocks` 16 outputs share a fate. Its packed forms are kept.
Tensor sparse_values(const geometry::Conv& g, double density, bool blocks) {
  Tensor w = random_values({g.o, g.c, g.kh, g.kw}, 7);
  float* const v = w.mutable_data();
  const int64_t depth = w.numel() / g.o;
  for (int64_t i = 0; i < w.numel(); ++i)
    if (random_uniform(1, 8, uint64_t(blocks ? i / depth / 16 * depth + i % depth : i)) >= float(density)) v[i] = 0;
  w = w.clone();
  w.storage()->packs().keep_all();
  return w;
}

// Seconds: of this process's processors where it has one thread, which neighbours hardly disturb, else of the clock.
double seconds_now() {
  if (num_threads() == 1) return double(std::clock()) / CLOCKS_PER_SEC;
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// The least times of both, taking turns.
std::pair<double, double> times(double seconds, const std::function<void()>& a, const std::function<void()>& b) {
  const auto many = [](const std::function<void()>& f, int n) {
    const double start = seconds_now();
    for (int i = 0; i < n; ++i) f();
    return (seconds_now() - start) / n;
  };
  many(a, 1), many(b, 1);  // which pack
  // So many at once that the clock's steps do not count.
  constexpr double long_enough = 2e-4;
  const auto together = [&](double once) { return int(std::clamp(long_enough / std::max(once, 1e-7), 1., 1000.)); };
  const int of_a = together(many(a, 3)), of_b = together(many(b, 3));
  std::pair<double, double> least{1e9, 1e9};
  const double end = seconds_now() + seconds;
  for (int i = 0; i < 4 || seconds_now() < end; ++i) {
    least.first = std::min(least.first, many(a, of_a));
    least.second = std::min(least.second, many(b, of_b));
  }
  return least;
}

// The line of least squares, raised above every point.
SparseTable::Line line_over(const std::vector<std::pair<double, double>>& points) {
  const auto n = double(points.size());
  double x = 0, y = 0, xx = 0, xy = 0;
  for (const auto& [d, t] : points) x += d, y += t, xx += d * d, xy += d * t;
  const double slope = std::max(0., (n * xy - x * y) / (n * xx - x * x));
  double fixed = 0;
  for (const auto& [d, t] : points) fixed = std::max(fixed, t - slope * d);
  return {float(fixed), float(slope)};
}

SparseTable::Line measured(const geometry::Conv& g, SparseFormat format, double seconds) {
  if (!sparse_runs(format, g)) return {};
  const bool linear = is_linear(g);
  const Tensor x = linear ? random_values({g.n, g.c}, 5) : random_values({g.n, g.c, g.h, g.w}, 5);
  const Tensor bias = random_values({g.o}, 6);
  Tensor y = linear ? Tensor::empty({g.n, g.o}) : Tensor::empty({g.n, g.o, g.out_h(), g.out_w()});
  const geometry::After after{.lo = 0};
  std::vector<std::pair<double, double>> points;
  for (const double density : {0.05, 0.15, 0.3, 0.5, 0.8}) {
    const Tensor w = sparse_values(g, density, format == SparseFormat::blocks);
    const auto [dense, sparse] = times(
        seconds,
        [&] {
          if (linear)
            run::linear_fused(Device{}, geometry::Affine{g.n, g.c, g.o}, after, x.in(), w.in(), bias.in(), In{},
                              y.out());
          else
            run::conv2d_fused(Device{}, g, after, x.in(), w.in(), bias.in(), In{}, y.out());
        },
        [&] { run::conv2d_sparse(Device{}, g, after, int(format), x.in(), w.in(), bias.in(), In{}, y.out()); });
    points.emplace_back(density, sparse / dense);
  }
  return line_over(points);
}

}  // namespace

std::vector<geometry::Conv> sparse_layers(const Graph& graph) {
  std::set<geometry::Conv> all;
  for (const GraphValue& v : graph.values) {
    if (v.kind != GraphValue::result) continue;
    std::vector<Shape> shapes = graph.input_shapes(v);
    if (shapes.size() > 3) shapes.resize(3);
    std::optional<geometry::Conv> g;
    if (const auto* fused = dynamic_cast<const FusedConv2dOp*>(v.op.get()))
      g = fused->conv.geometry(shapes);
    else if (const auto* conv = dynamic_cast<const Conv2dOp*>(v.op.get()))
      g = conv->geometry(shapes);
    else if (dynamic_cast<const FusedLinearOp*>(v.op.get()) || dynamic_cast<const LinearOp*>(v.op.get()))
      g = geometry::Conv{.n = 1, .c = shapes[1][1], .h = 1, .w = 1, .o = shapes[1][0], .kh = 1, .kw = 1};
    if (!g) continue;
    g->n = 1;
    if (g->groups == 1 && g->kh == g->kw && g->stride_h == g->stride_w && g->dilation_h == 1 && g->dilation_w == 1)
      all.insert(*g);
  }
  return {all.begin(), all.end()};
}

SparseTable tune(const std::vector<geometry::Conv>& layers, const TuneOptions& options) {
  const NoGrad no_grad;
  std::vector<SparseTable::Row> rows;
  const auto all = int64_t(layers.size() * options.batches.size());
  for (geometry::Conv g : layers)
    for (const int64_t n : options.batches) {
      if (options.progress) options.progress(int64_t(rows.size()), all);
      g.n = n;
      rows.push_back({.wide = SparseTable::wide_here(),
                      .batch = n,
                      .c = g.c,
                      .o = g.o,
                      .map = std::max(g.out_h(), g.out_w()),
                      .kernel = g.kh,
                      .stride = g.stride_h,
                      .lanes = measured(g, SparseFormat::lanes, options.seconds),
                      .blocks = measured(g, SparseFormat::blocks, options.seconds)});
    }
  return SparseTable(std::move(rows));
}

void save_sparse_table(const std::string& path, const SparseTable& table) {
  Json rows = Json::array();
  for (const SparseTable::Row& r : table.rows())
    rows.push_back({{"avx512", r.wide},
                    {"batch", r.batch},
                    {"c", r.c},
                    {"o", r.o},
                    {"map", r.map},
                    {"kernel", r.kernel},
                    {"stride", r.stride},
                    {"lanes", {r.lanes.fixed, r.lanes.slope}},
                    {"blocks", {r.blocks.fixed, r.blocks.slope}}});
  write_file(path, Json{{"sparse_table", std::move(rows)}}.dump(1) + "\n");
}

SparseTable parse_sparse_table(std::string_view text, const std::string& name) {
  constexpr size_t most_rows = 100'000;
  const auto refuse = [&](const std::string& what) { fail(ErrorKind::data, "[sparse table] ", name, ": ", what); };
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("sparse_table") || !json["sparse_table"].is_array())
    refuse("expected {\"sparse_table\": [...]}");
  const Json& list = json["sparse_table"];
  if (list.size() > most_rows) refuse(std::to_string(list.size()) + " rows");
  std::vector<SparseTable::Row> rows;
  for (const Json& r : list) {
    const std::string where = "row " + std::to_string(rows.size());
    if (!r.is_object()) refuse(where + " is no object");
    const auto whole = [&](const char* key) -> int64_t {
      if (!r.contains(key) || !r[key].is_number_integer() || r[key] < 1 || r[key] > 1'000'000)
        refuse(where + ": expected \"" + key + "\", a number from 1 on");
      return r[key].get<int64_t>();
    };
    const auto line = [&](const char* key) -> SparseTable::Line {
      const auto fine = [](const Json& v) { return v.is_number() && v >= 0 && v <= 1e6; };
      if (!r.contains(key) || !r[key].is_array() || r[key].size() != 2 || !fine(r[key][0]) || !fine(r[key][1]))
        refuse(where + ": expected \"" + key + "\", two numbers of at least 0");
      return {r[key][0].get<float>(), r[key][1].get<float>()};
    };
    if (!r.contains("avx512") || !r["avx512"].is_boolean()) refuse(where + ": expected \"avx512\", true or false");
    rows.push_back({r["avx512"].get<bool>(), whole("batch"), whole("c"), whole("o"), whole("map"), whole("kernel"),
                    whole("stride"), line("lanes"), line("blocks")});
  }
  return SparseTable(std::move(rows));
}

SparseTable load_sparse_table(const std::string& path) {
  constexpr size_t most_bytes = size_t(64) << 20;
  const std::vector<char> text = read_file(path, most_bytes);
  return parse_sparse_table({text.data(), text.size()}, path);
}

}  // namespace espalier
