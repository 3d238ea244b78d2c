// The pass, the engine and the files of sparse networks: what a table promises is what runs, formats are named, masked
// = sparse within rounding on every batch size, and a packed file is the model that was written - or is refused in one
// line.
#include <doctest/doctest.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/pack.h>
#include <espalier/compress/prune/pruners.h>
#include <espalier/compress/quantize/engine.h>
#include <espalier/compress/rounding.h>
#include <espalier/compress/sparse_tune.h>
#include <espalier/core/io/file.h>
#include <espalier/core/io/packed.h>
#include <espalier/core/ops/sparse.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/nn/init.h>
#include <espalier/nn/model_file.h>
#include <espalier/nn/models.h>
#include <espalier/nn/state_dict.h>
#include <espalier/nn/trace.h>

#include <algorithm>
#include <filesystem>

#include "refusal.h"
#include "sanitized.h"

using namespace espalier;

namespace {

Tensor images(int64_t n, const Shape& image = {3, 32, 32}) {
  std::vector<float> v(size_t(n * image.numel()));
  for (size_t i = 0; i < v.size(); ++i) v[i] = 2 * random_uniform(3, 9, i) - 1;
  return Tensor::from(v, {n, image[0], image[1], image[2]});
}

// A network of which a part of the single weights is left.
std::unique_ptr<Module> pruned(const char* name, double sparsity) {
  manual_seed(1);
  auto model = make_model(name);
  LevelPruner(*model, {{.op_types = {"default"}, .sparsity = sparsity}}).compress();
  model->eval();
  return model;
}

// Promises that a format is worth it wherever it can run.
std::shared_ptr<const SparseTable> always(const Graph& graph, SparseFormat format) {
  std::vector<SparseTable::Row> rows;
  for (const geometry::Conv& g : sparse_layers(graph))
    for (const bool wide : {false, true})
      for (const int64_t n : SparseTable::batches) {
        SparseTable::Row row{wide, n, g.c, g.o, std::max(g.out_h(), g.out_w()), g.kh, g.stride_h, {}, {}};
        (format == SparseFormat::lanes ? row.lanes : row.blocks) = {.fixed = .1f, .slope = .1f};
        rows.push_back(row);
      }
  return std::make_shared<const SparseTable>(std::move(rows));
}

int64_t count(const Graph& graph, std::string_view name) {
  return std::count_if(graph.values.begin(), graph.values.end(),
                       [&](const GraphValue& v) { return v.op && v.op->name() == name; });
}

}  // namespace

TEST_CASE(
    "a pruned network's graph has sparse nodes, its engine is the dense one within rounding, its report names "
    "formats") {
  for (const char* name : {"vgg11", "resnet20", "mobilenetv2"}) {
    if (thread_sanitizer && name != std::string("resnet20")) continue;
    CAPTURE(name);
    const auto model = pruned(name, 0.9);
    const Graph graph = trace(*model, images(1));
    const Engine dense(graph, {.sparse = false});
    struct Expected {
      Tensor x, y;
      double rounding;
    };
    std::vector<Expected> expected;
    for (const int64_t n : {1, 3, 9}) {
      const Tensor x = images(n), y = dense(x);
      expected.push_back({x, y, rounding_of(graph, x, y)});
    }
    for (const SparseFormat format : {SparseFormat::lanes, SparseFormat::blocks}) {
      const Engine sparse(graph, {.table = always(graph, format)});
      CHECK(count(dense.graph(), "conv2d_sparse") + count(dense.graph(), "linear_sparse") == 0);
      const int64_t made = count(sparse.graph(), "conv2d_sparse") + count(sparse.graph(), "linear_sparse");
      CHECK(made >= int64_t(name == std::string("mobilenetv2") ? 30 : 9));
      CHECK(count(sparse.graph(), "relu") + count(sparse.graph(), "add") == 0);  // they stay fused
      for (const auto& [x, y, rounding] : expected) {
        CHECK(largest_difference(sparse(x), y) <= rounding);
        const int before = num_threads();
        const auto bits = sparse(x).to_vector();
        for (const int threads : {1, 5}) {
          set_num_threads(threads);
          CHECK(sparse(x).to_vector() == bits);
        }
        set_num_threads(before);
      }
      int64_t named = 0;
      for (const Engine::Layer& l : sparse.report({images(1)}, 1)) {
        named += l.format == name_of(format);
        if (l.format == name_of(format)) CHECK((l.density < 1 && l.gain > 1));
      }
      CHECK(named == made);
      CHECK(std::count_if(sparse.notes().begin(), sparse.notes().end(),
                          [](const PassNote& n) { return n.pass == "sparsify"; }) >= made);
    }
  }
}

TEST_CASE("what has no zeros, or too few, stays dense; depthwise layers always do") {
  manual_seed(2);
  const auto model = make_model("resnet20");
  model->eval();
  const Graph graph = trace(*model, images(1));
  CHECK(count(sparsify(graph), "conv2d_sparse") == 0);
  CHECK(count(sparsify(graph, {.table = always(graph, SparseFormat::lanes)}), "conv2d_sparse") == 0);
  const auto mobile = pruned("mobilenetv2", 0.9);
  const Graph traced = trace(*mobile, images(1));
  const Graph sparse = sparsify(traced, {.table = always(traced, SparseFormat::lanes)});
  for (const GraphValue& v : sparse.values)
    if (const auto* conv = dynamic_cast<const SparseConv2dOp*>(v.op.get())) CHECK(conv->conv.groups == 1);
  CHECK(count(sparse, "conv2d") > 10);  // depthwise
}

TEST_CASE("the shipped table: pays at 95 %, for the batch that is asked, and never below its least gain") {
  const auto model = pruned("vgg19", 0.95);
  const Graph graph = trace(*model, images(1));
  for (const int64_t n : {1, 64}) CHECK(count(sparsify(graph, {.batch = n}), "conv2d_sparse") >= 12);
  for (const geometry::Conv& g : sparse_layers(graph))
    for (int64_t n = 1; n < 200; n += 7) {
      geometry::Conv some = g;
      some.n = n;
      for (double density = 0; density <= 1; density += .125) {
        const SparseChoice c = SparseTable::shipped()->choose(some, {density, density});
        CHECK((c.format == SparseFormat::dense ? c.gain == 1 : c.gain >= SparseTable::least_gain));
        if (density == 1) CHECK(c.format == SparseFormat::dense);
      }
    }
}

TEST_CASE("tables are measured, written, read, and refused in one line") {
  const geometry::Conv g{.n = 1, .c = 8, .h = 4, .w = 4, .o = 16, .kh = 3, .kw = 3, .pad_h = 1, .pad_w = 1};
  const SparseTable table = tune({g}, {.batches = {1, 16}, .seconds = 1e-4, .progress = {}});
  REQUIRE(table.rows().size() == 2);
  CHECK(table.rows()[1].batch == 16);
  CHECK(table.rows()[0].lanes.fixed > 0);
  const std::string path = (std::filesystem::temp_directory_path() / "espalier_sparse_table.json").string();
  save_sparse_table(path, table);
  const SparseTable again = load_sparse_table(path);
  REQUIRE(again.rows().size() == 2);
  CHECK(again.rows()[1].lanes.slope == table.rows()[1].lanes.slope);
  CHECK(again.find(g) == &again.rows()[0]);
  std::filesystem::remove(path);
  for (
      const char* text :
      {"", "[]", "{}", R"({"sparse_table": 3})", R"({"sparse_table": [3]})", R"({"sparse_table": [{"avx512": true}]})",
       R"({"sparse_table":[{"avx512":true,"batch":0,"c":1,"o":1,"map":1,"kernel":1,"stride":1,"lanes":[0,1],"blocks":[0,1]}]})",
       R"({"sparse_table":[{"avx512":true,"batch":1,"c":1,"o":1,"map":1,"kernel":1,"stride":1,"lanes":[-1,1],"blocks":[0,1]}]})",
       R"({"sparse_table":[{"avx512":true,"batch":1,"c":1,"o":1,"map":1,"kernel":1,"stride":1,"lanes":[0,1],"blocks":[0]}]})"})
    CHECK(refusal([&] { parse_sparse_table(text, "some.json"); }, ErrorKind::data).find("some.json") !=
          std::string::npos);
}

TEST_CASE("packed files: the same bits from a tenth of the bytes, and nothing that does not agree with itself") {
  const auto model = pruned("vgg11", 0.95);
  const auto folder = std::filesystem::temp_directory_path() / "espalier_packed";
  std::filesystem::create_directories(folder);
  const std::string packed = (folder / "packed.pth").string(), plain = (folder / "plain.pth").string();
  const std::string note = model_note(model_info("vgg11"));
  save_packed(packed, *model, note);
  {
    const Baked baked(*model);
    pth::save(plain, pth::from_state_dict(state_dict(*model)), note);
  }
  CHECK(std::filesystem::file_size(packed) * 10 < std::filesystem::file_size(plain));
  const LoadedModel a = load_model(packed), b = load_model(plain);
  const auto one = state_dict(*a.module), two = state_dict(*b.module);
  REQUIRE(one.size() == two.size());
  for (size_t i = 0; i < one.size(); ++i) {
    CHECK(one[i].first == two[i].first);
    CHECK(one[i].second.to_vector() == two[i].second.to_vector());
  }
  std::filesystem::remove_all(folder);

  const std::vector<float> v{0, 1, 0, 0, -0.f, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3};
  const pth::StateDict dict{{"w", Tensor::from(v, {3, 7})}, {"s", Tensor::from(std::vector<int64_t>{4}, {1})}};
  const pth::StateDict small = pth::pack_zeros(dict);
  REQUIRE(small.size() == 4);
  const pth::StateDict back = pth::unpack_zeros(small, "file");
  REQUIRE(back.size() == 2);
  CHECK(back[0].first == "w");
  CHECK(back[0].second.shape() == Shape{3, 7});
  CHECK(back[0].second.to_vector() == v);
  const auto refused = [&](size_t part, const Tensor& instead, const std::string& why) {
    pth::StateDict bad = small;
    if (instead)
      bad[part].second = instead;
    else
      bad.erase(bad.begin() + ptrdiff_t(part));
    const std::string what = refusal([&] { pth::unpack_zeros(bad, "file"); }, ErrorKind::data);
    CAPTURE(what);
    CHECK(what.find(why) != std::string::npos);
    CHECK(what.find("[packed] file: w") == 0);
  };
  const auto bytes = [](std::vector<uint8_t> all) { return Tensor::from(all, {int64_t(all.size())}); };
  const auto sizes = [](std::vector<int64_t> all) { return Tensor::from(all, {int64_t(all.size())}); };
  refused(1, {}, "has no packed_values");
  refused(2, {}, "has no packed_shape");
  refused(1, Tensor::zeros({5}), "5 values for 3 places");
  refused(1, Tensor::zeros({3}, DType::s32), "expected f32");
  refused(0, bytes({0x22, 0, 0xf0}), "bits beyond");
  refused(0, bytes({0x22, 0}), "bitmap of 2 bytes");
  refused(2, sizes({3, 8, 1 << 20}), "another shape");
  refused(2, sizes({1, 1}), "for [1,1]");
  refused(2, sizes({-3, -7}), "another shape");
  refused(2, sizes({0, 7}), "another shape");
  refused(2, sizes({int64_t(1) << 62, 4}), "another shape");
  refused(2, sizes({1, 1, 1, 1, 1, 3, 7}), "7 dimensions");
  pth::StateDict twice = small;
  twice.emplace_back("w", Tensor::zeros({3, 7}));
  CHECK(refusal([&] { pth::unpack_zeros(twice, "file"); }, ErrorKind::data).find("twice") != std::string::npos);
}
