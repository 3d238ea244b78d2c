// .pth files: what PyTorch 1.13 and 2.15 wrote, in both of its formats, is read, what we write comes back bit for bit,
// and no damaged or hostile file does anything but throw one line. tests/data/make_pth.py made the samples and knows
// their values.
#include <doctest/doctest.h>
#include <espalier/core/io/file.h>
#include <espalier/core/io/pickle.h>
#include <espalier/core/io/pth.h>
#include <espalier/core/io/zip.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "refusal.h"

using namespace espalier;
using pth::Dict;
using pth::List;
using pth::Value;

namespace {

struct Folder {
  std::string path =
      (std::filesystem::temp_directory_path() / ("espalier_pth_" + std::to_string(getpid()))).string() + "/";
  Folder() { std::filesystem::create_directories(path); }
  ~Folder() { std::filesystem::remove_all(path); }
};

std::string sample(const std::string& version, const std::string& name) {
  return ESPALIER_SOURCE_DIR "/tests/data/pytorch-" + version + "/" + name + ".pth";
}

std::string refusal_of(const std::string& bytes) {
  return refusal([&] { pth::parse(bytes.data(), bytes.size(), "FILE"); });
}

const Tensor& tensor(const Value& v, const std::string& key) {
  const Value* found = v.find(key);
  REQUIRE_MESSAGE(found, key);
  return std::get<Tensor>(*found);
}

std::vector<double> ramp(size_t n, double scale = 1 / 8., double shift = 0) {
  std::vector<double> values(n);
  for (size_t i = 0; i < n; ++i) values[i] = (double(i * 7 % 23) - 11 + shift) * scale;
  return values;
}

std::vector<double> doubles(const Tensor& t) {
  if (t.dtype() == DType::s64) {
    const auto v = t.to_vector<int64_t>();
    return {v.begin(), v.end()};
  }
  const auto v = t.to_vector<float>();
  return {v.begin(), v.end()};
}

bool same(const Value& a, const Value& b) {
  if (a.index() != b.index()) return false;
  if (const auto* t = std::get_if<Tensor>(&a)) {
    const auto& u = std::get<Tensor>(b);
    return t->shape() == u.shape() && t->dtype() == u.dtype() &&
           std::memcmp(t->in().data, u.in().data, t->bytes()) == 0;
  }
  if (const auto* l = std::get_if<List>(&a)) {
    const auto& m = std::get<List>(b);
    return std::equal(l->begin(), l->end(), m.begin(), m.end(), same);
  }
  if (const auto* d = std::get_if<Dict>(&a)) {
    const auto& e = std::get<Dict>(b);
    return std::equal(d->begin(), d->end(), e.begin(), e.end(),
                      [](const auto& p, const auto& q) { return p.first == q.first && same(p.second, q.second); });
  }
  if (const auto* x = std::get_if<double>(&a)) return std::memcmp(x, std::get_if<double>(&b), sizeof(double)) == 0;
  if (const auto* x = std::get_if<std::string>(&a)) return *x == std::get<std::string>(b);
  if (const auto* x = std::get_if<int64_t>(&a)) return *x == std::get<int64_t>(b);
  if (const auto* x = std::get_if<bool>(&a)) return *x == std::get<bool>(b);
  return true;
}

template <class T>
Tensor numbered(const Shape& shape) {
  std::vector<T> values(size_t(shape.numel()));
  for (size_t i = 0; i < values.size(); ++i) values[i] = T(float(i * 37 % 101) - 50);
  return Tensor::from(values, shape);
}

// A .pth whose pickle is `pickled`, with one storage "0" of 64 zero bytes.
std::string archive(const std::string& pickled) {
  std::string bytes;
  zip::Writer zip([&](const void* data, size_t n) { bytes.append(static_cast<const char*>(data), n); });
  zip.add("archive/data.pkl", pickled);
  zip.add("archive/data/0", std::string(64, '\0'));
  zip.finish();
  return bytes;
}

// The pickle of a float tensor over storage "0" with these sizes, strides, offset and claimed
// storage length.
std::string tensor_pickle(const std::vector<int64_t>& sizes, const std::vector<int64_t>& steps, int64_t offset = 0,
                          int64_t claimed = 16, const std::string& type = "torch FloatStorage") {
  namespace op = pickle::opcode;
  pickle::Writer w;
  w.global("torch._utils _rebuild_tensor_v2")
      .op(op::mark)
      .op(op::mark)
      .text("storage")
      .global(type)
      .text("0")
      .text("cpu");
  w.integer(claimed).op(op::tuple).op(op::persistent).integer(offset);
  for (const auto* numbers : {&sizes, &steps}) {
    w.op(op::mark);
    for (int64_t i : *numbers) w.integer(i);
    w.op(op::tuple);
  }
  w.boolean(false).none().op(op::tuple).op(op::call);
  return w.finish();
}

}  // namespace

TEST_CASE("what PyTorch saved is read") {
  for (const std::string version : {"1.13", "2.15"}) {
    CAPTURE(version);
    const Value v = pth::load(sample(version, "tensors"));
    CHECK(std::get<Dict>(v).size() == 25);
    for (const auto& [key, item] : std::get<Dict>(v)) {
      CAPTURE(key);
      const Tensor& t = std::get<Tensor>(item);
      const size_t n = size_t(t.numel());
      if (key == "expanded") {
        CHECK(doubles(t) == std::vector<double>(12, -11 / 8.));
      } else if (key == "bool") {
        CHECK(t.dtype() == DType::u8);
        std::vector<double> expected = ramp(n);
        for (double& x : expected) x = x > 0;
        CHECK(doubles(t) == expected);
      } else if (key == "uint8") {
        CHECK(doubles(t) == ramp(n, 1, 11));
      } else {
        CHECK(doubles(t) == ramp(n, key.starts_with("int") ? 1 : 1 / 8.));
      }
    }
    CHECK(tensor(v, "rank0").shape() == Shape{});
    CHECK(tensor(v, "rank4_channels_last").shape() == Shape{2, 3, 4, 5});
    CHECK(tensor(v, "rank5").shape() == Shape{2, 3, 2, 2, 2});
    CHECK(tensor(v, "empty").shape() == Shape{0, 3});
    CHECK(tensor(v, "parameter").shape() == Shape{3, 4});
    const std::pair<const char*, DType> types[] = {
        {"float64", DType::f32}, {"float16", DType::f32}, {"bfloat16", DType::bf16}, {"int64", DType::s64},
        {"int32", DType::s32},   {"int16", DType::s32},   {"int8", DType::s8},       {"uint8", DType::u8}};
    for (const auto& [key, type] : types) CHECK(tensor(v, key).dtype() == type);

    const auto state = pth::state_dict(pth::load(sample(version, "state_dict")), "sample");
    REQUIRE(state.size() == 7);
    CHECK(state[0].first == "0.weight");
    CHECK(doubles(state[0].second) == ramp(54));
    CHECK(state[6].first == "1.num_batches_tracked");
    CHECK(state[6].second.dtype() == DType::s64);

    const Value c = pth::load(sample(version, "checkpoint"));
    CHECK(std::get<int64_t>(*c.find("epoch")) == 7);
    CHECK(std::get<int64_t>(*c.find("big")) == int64_t(1) << 40);
    CHECK(std::get<int64_t>(*c.find("negative")) == -3);
    CHECK(std::get<double>(*c.find("loss")) == 0.125);
    CHECK(std::get<bool>(*c.find("best")));
    CHECK(std::holds_alternative<std::monostate>(*c.find("nothing")));
    CHECK(std::get<std::string>(*c.find("name")) == "gr\u00f6\u00dfe");
    CHECK(std::get<std::string>(std::get<List>(std::get<List>(*c.find("list"))[1])[1]) == "x");
    CHECK(std::get<int64_t>(std::get<List>(*c.find("size"))[1]) == 3);
    CHECK_FALSE(c.find("absent"));
    const Value* momentum = c.find("optimizer")->find("state")->find("0")->find("momentum_buffer");
    REQUIRE(momentum);
    CHECK(doubles(std::get<Tensor>(*momentum)) == ramp(54));
    CHECK(std::get<int64_t>(*c.find("schedule")->find("milestones")->find("3")) == 1);

    const Value m = pth::load(sample(version, "masks"));
    CHECK(doubles(tensor(*m.find("conv"), "weight")) == std::vector<double>(6, 1));
    CHECK(std::holds_alternative<std::monostate>(*m.find("conv")->find("bias")));

    CHECK(doubles(tensor(pth::load(sample(version, "legacy")), "a")) == ramp(3));
    CHECK(refusal([&] { pth::load(sample(version, "torchscript")); }).find("TorchScript") != std::string::npos);
    CHECK(refusal([&] { pth::state_dict(c, "checkpoint"); }).find("'model'") != std::string::npos);
  }
}

TEST_CASE("checkpoints as training scripts leave them: pickle protocols, the old format, what stands beside weights") {
  for (const char* name : {"script_2", "script_3", "script_4", "script_5", "script_legacy"}) {
    CAPTURE(name);
    const Value v = pth::load(sample("2.15", name));
    const auto weights = pth::state_dict(*v.find("net"), "net");
    REQUIRE(weights.size() == 7);
    CHECK(weights[0].first == "module.0.weight");
    CHECK(doubles(weights[0].second) == ramp(54));
    CHECK(doubles(weights[1].second) == ramp(3));
    CHECK(weights[6].second.dtype() == DType::s64);
    CHECK(std::get<double>(*v.find("accuracy")) == 0.625);
    CHECK(std::get<double>(*v.find("loss")) == -1.5);
    CHECK(std::get<int64_t>(*v.find("epoch")) == -3);
    CHECK(std::get<bool>(*v.find("best")));
    CHECK(std::get<List>(*v.find("seen")).size() == 2);
    CHECK(std::get<std::string>(*v.find("empty")->find("inside")) == "x");
    for (const char* nothing : {"args", "history", "raw", "device"})
      CHECK_MESSAGE(std::holds_alternative<std::monostate>(*v.find(nothing)), nothing);
    const Tensor& view = tensor(v, "view");
    const std::vector<double> bias = ramp(3);
    CHECK(doubles(view) == std::vector<double>(bias.begin() + 1, bias.end()));
  }
  const std::string what = refusal([&] { pth::load(sample("2.15", "module")); });
  CHECK_MESSAGE(what.find("'torch.nn.modules.container Sequential'") != std::string::npos, what);
  CHECK_MESSAGE(what.find("torch.save(model.state_dict(), ...)") != std::string::npos, what);
}

TEST_CASE("the old format, damaged or made to hurt") {
  const auto bytes = read_file(sample("2.15", "script_legacy"), 1 << 20);
  std::string file(bytes.begin(), bytes.end());
  for (size_t n = 0; n < file.size(); ++n) CHECK_MESSAGE(refusal_of(file.substr(0, n)) != "accepted", "cut to ", n);
  for (size_t at = 0; at < file.size(); ++at)  // no checksums here: it may be read, but never beyond its bytes
    for (const char put : {'\0', '\xff', char(file[at] ^ 4)}) {
      std::string changed = file;
      changed[at] = put;
      const std::string what = refusal_of(changed);
      CHECK((what == "accepted" || what.find("FILE") != std::string::npos));
    }
  using namespace std::string_literals;
  CHECK(refusal_of("\x80\x02}.").find("torch.save did not make") != std::string::npos);
  const std::string start = "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."s;
  CHECK(refusal_of(start + "\x80\x02M\xe8\x03.").find("unknown version") != std::string::npos);
  const std::string begun = start + "\x80\x02M\xe9\x03."s;
  CHECK(refusal_of(begun + "\x80\x02}X\x0d\0\0\0little_endian\x89s."s).find("big-endian") != std::string::npos);
  CHECK(refusal_of(begun + "\x80\x02}.\x80\x02}.\x80\x02](X\x01\0\0\0ae."s).find("unknown type") != std::string::npos);
}

TEST_CASE("save and load give the same bits") {
  const Folder folder;
  const std::string path = folder.path + "round.pth";
  List all;
  for (const Shape& s : {Shape{}, Shape{0}, Shape{7}, Shape{3, 5}, Shape{2, 3, 4}, Shape{2, 3, 4, 5}, Shape{5, 1, 3, 3},
                         Shape{1, 4, 1, 1}, Shape{2, 0, 3, 3}, Shape{2, 3, 1, 2, 2}, Shape{1, 2, 1, 2, 3, 2}}) {
    all.push_back(numbered<float>(s));
    all.push_back(numbered<bfloat16>(s));
    all.push_back(numbered<int64_t>(s));
    all.push_back(numbered<int32_t>(s));
    all.push_back(numbered<int8_t>(s));
    all.push_back(numbered<uint8_t>(s));
  }
  const Tensor shared = numbered<float>({4, 2, 2, 2});
  const Value value = Dict{{"tensors", all},
                           {"shared", List{shared, shared, shared.view_as({4, 8})}},
                           {"numbers", List{int64_t(0), int64_t(-1), INT64_MIN, INT64_MAX, int64_t(INT32_MAX) + 1, 0.1,
                                            -0.0, std::numeric_limits<double>::infinity(), true, false}},
                           {"", std::string("\0\n\xc3\xa4", 4)},
                           {"nothing", Value()},
                           {"empty", List{List{}, Dict{}, std::string()}}};
  pth::save(path, value, "{\"note\": 1}");
  std::string note;
  CHECK(same(pth::load(path, &note), value));
  CHECK(note == "{\"note\": 1}");
  pth::save(path, value);
  pth::load(path, &note);
  CHECK(note.empty());
  const auto first = read_file(path, 1 << 30);
  pth::save(path, value);
  CHECK(read_file(path, 1 << 30) == first);

  const auto bytes = pth::load(path);  // NaN's payload survives as well
  std::vector<float> nan(3, std::bit_cast<float>(0x7fc12345u));
  pth::save(path, Dict{{"nan", Tensor::from(nan, {3})}});
  CHECK(std::memcmp(tensor(pth::load(path), "nan").data(), nan.data(), 12) == 0);
}

TEST_CASE("deflated entries are read") {
  // Python's zipfile.ZIP_DEFLATED repacked masks.pth of 2.15.
  const Value v = pth::load(ESPALIER_SOURCE_DIR "/tests/data/deflated.pth");
  CHECK(doubles(tensor(*v.find("conv"), "weight")) == std::vector<double>(6, 1));
}

TEST_CASE("a full disk leaves the old file") {
  const Folder folder;
  const std::string path = folder.path + "full.pth";
  pth::save(path, Dict{{"old", int64_t(1)}});
  rlimit before;
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit small = before;
  small.rlim_cur = 2000;
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  const std::string what = refusal([&] { pth::save(path, Dict{{"new", numbered<float>({1000})}}); });
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  CHECK(what.find(path) != std::string::npos);
  CHECK(std::get<int64_t>(*pth::load(path).find("old")) == 1);
  CHECK_FALSE(std::filesystem::exists(path + std::string(beside_suffix)));
}

TEST_CASE("no truncation and no flipped bit goes unnoticed where it matters") {
  for (const std::string& path : {sample("1.13", "state_dict"), sample("2.15", "checkpoint"),
                                  std::string{ESPALIER_SOURCE_DIR "/tests/data/deflated.pth"}}) {
    CAPTURE(path);
    const auto bytes = read_file(path, 1 << 20);
    std::string file(bytes.begin(), bytes.end());
    const Value whole = pth::parse(file.data(), file.size(), "FILE");
    for (size_t n = 0; n < file.size(); ++n) {
      const std::string what = refusal_of(file.substr(0, n));
      CHECK_MESSAGE(what.find("FILE") != std::string::npos, "cut to ", n);
    }
    for (size_t at = 0; at < file.size(); ++at)
      for (int bit = 0; bit < 8; bit += 3) {
        file[at] = char(file[at] ^ (1 << bit));
        Value changed;
        const std::string what = refusal([&] { changed = pth::parse(file.data(), file.size(), "FILE"); });
        if (what == "accepted") CHECK_MESSAGE(same(changed, whole), "byte ", at, " bit ", bit);
        file[at] = char(file[at] ^ (1 << bit));
      }
  }
}

TEST_CASE("what is no weight beside weights is read as nothing: long integers, keys that are no names") {
  using namespace std::string_literals;
  const auto read = [](const std::string& pickled) {
    const std::string bytes = archive(pickled);
    return pth::parse(bytes.data(), bytes.size(), "FILE");
  };
  const Value state = read(
      "\x80\x02}(X\x05\0\0\0state\x8a\x09\1\2\3\4\5\6\7\x08\x09"
      "X\x01\0\0\0aK\x07u."s);
  CHECK(std::holds_alternative<std::monostate>(*state.find("state")));
  CHECK(std::get<int64_t>(*state.find("a")) == 7);
  const Value counts = read(
      "\x80\x02}(G\x3f\xe0\0\0\0\0\0\0K\x01"
      "X\x01\0\0\0aK\x02u."s);
  CHECK(std::get<pth::Dict>(counts).size() == 1);
  CHECK(std::get<int64_t>(*counts.find("a")) == 2);
  CHECK(refusal_of(archive("\x80\x02}(G\x3f\xe0\0\0\0\0\0\0cos\nsystem\nu."s)).find("'os system'") !=
        std::string::npos);
}

TEST_CASE("hostile pickles are refused") {
  const auto refused = [](const std::string& pickled, const std::string& why) {
    const std::string what = refusal_of(archive(pickled));
    CHECK_MESSAGE(what.find(why) != std::string::npos, why, " expected, got: ", what);
  };
  using namespace std::string_literals;
  refused(
      "\x80\x02"
      "cos\nsystem\n(X\x04\0\0\0echotR."s,
      "'os system'");
  refused(
      "\x80\x02"
      "c__builtin__\neval\n)R."s,
      "'__builtin__ eval'");
  refused(
      "\x80\x02"
      "cos\nsystem\n."s,
      "'os system'");
  refused(
      "\x80\x02"
      "}(K\x01"
      "cos\nsystem\nu."s,
      "'os system'");  // even where nobody calls it
  refused(
      "\x80\x02"
      "ctorch._utils\n_rebuild_tensor_v2\n)R."s,
      "with 0 arguments");
  refused(
      "\x80\x02"
      "ccollections\nOrderedDict\n."s,
      "bare name");
  refused(
      "\x80\x02"
      "K\x01)R."s,
      "not a function");
  refused("\x80\x02i\x01."s, "opcode 105");  // INST, which makes objects
  refused("\x80\x06N."s, "protocol 6");
  refused("\x80\x01N."s, "protocol 1");
  refused("\x80\x04\x95"s, "ends early");
  refused("\x80\x04\x95\x03\0\0\0\0\0\0\0N."s, "ends early");  // a frame longer than the file
  refused("\x80\x04\x8c\x02os\x8c\x06system\x93."s, "'os system'");
  refused("\x80\x04\x8c\x02osK\x01\x93."s, "not text");
  refused("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff\xff."s, "ends early");
  refused("\x80\x04\x94."s, "empty stack");
  refused("\x80\x04\x90."s, "did not begin");
  refused(
      "\x80\x02"
      "cos\nsystem\n)\x81."s,
      "'os system'");
  refused(
      "\x80\x02"
      "cos\nsystem\n)}\x92."s,
      "'os system'");
  refused("\x80\x02K\x01)}\x92."s, "not a function");
  refused(
      "\x80\x02"
      "cnumpy.core.multiarray\nscalar\n(NNtR."s,
      "damaged number");
  refused(
      "\x80\x03"
      "cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x02"
      "f8tRC\x07"
      "1234567tR."s,
      "damaged number");
  refused("\x80\x02"s, "ends early");
  refused("\x80\x02."s, "one value");
  refused("\x80\x02NN."s, "one value");
  refused("\x80\x02(N."s, "one value");
  refused("\x80\x02(0."s, "opcode 48");
  refused("\x80\x02t."s, "did not begin");
  refused("\x80\x02(R."s, "empty stack");
  refused("\x80\x02q\x01."s, "empty stack");
  refused("\x80\x02h\x07."s, "did not keep");
  refused("\x80\x02NN\x86q\x01h\x01h\x01sN."s, "cannot hold");
  refused("\x80\x02}(NNNu."s, "cannot hold");
  refused("\x80\x02}(K\x01K\x02K\x01K\x03u."s, "two entries '1'");
  refused(
      "\x80\x02X\xff\xff\xff\xff"
      "abc."s,
      "ends early");
  refused(
      "\x80\x02\x8a\x09"
      "12345678"s,
      "ends early");
  refused("\x80\x02K\x01Q."s, "bare storage");
  refused(
      "\x80\x02]q\x00h\x00"
      "a."s,
      "deeper than");  // a list inside itself
  refused("\x80\x02" + std::string(100, ']') + std::string(99, 'a') + "."s, "deeper than");
  refused("\x80\x02" + std::string(1000000, '('), "ends early");
  refused("\x80\x02" + std::string(5000000, '('), "groups");
  refused("\x80\x02" + std::string(5000000, 'N'), "objects");

  // Thirty lists that each hold the one before twice: 2^30 values from 200 bytes.
  std::string nested = "\x80\x02(]q\x00"s;
  for (char i = 1; i <= 30; ++i) nested += "](h"s + char(i - 1) + "h" + char(i - 1) + "eq" + i;
  refused(nested + "t.", "unfolds");

  // A long text recalled a million times.
  std::string echo = "\x80\x02]("s + "X\xe8\x03\0\0"s + std::string(1000, 'x') + "q\x00"s;
  for (int i = 0; i < 100000; ++i) echo += "h\x00"s;
  refused(echo + "e.", "unfolds");
}

TEST_CASE("tensors that do not fit their storage are refused") {
  const auto what = [](const std::string& pickled) { return refusal_of(archive(pickled)); };
  const auto has = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  CHECK(what(tensor_pickle({4, 4}, {4, 1})) == "accepted");
  CHECK(what(tensor_pickle({15}, {1}, 1)) == "accepted");
  CHECK(what(tensor_pickle({0, INT64_MAX}, {1, 1})) == "accepted");
  CHECK(has(what(tensor_pickle({16}, {1}, 1)), "reaches beyond"));
  CHECK(has(what(tensor_pickle({17}, {1})), "reaches beyond"));
  CHECK(has(what(tensor_pickle({2}, {16})), "reaches beyond"));
  CHECK(has(what(tensor_pickle({2}, {INT64_MAX})), "reaches beyond"));
  CHECK(has(what(tensor_pickle({2, 2}, {INT64_MAX, INT64_MAX})), "reaches beyond"));
  CHECK(has(what(tensor_pickle({2}, {1}, INT64_MAX)), "reaches beyond"));
  CHECK(has(what(tensor_pickle({2}, {-1}, 3)), "negative"));
  CHECK(has(what(tensor_pickle({-2}, {1})), "negative"));
  CHECK(has(what(tensor_pickle({2}, {1}, -1)), "negative"));
  CHECK(has(what(tensor_pickle({2}, {1, 1})), "1 sizes and 2 strides"));
  CHECK(has(what(tensor_pickle({1, 1, 1, 1, 1, 1, 1}, {1, 1, 1, 1, 1, 1, 1})), "rank 7"));
  CHECK(has(what(tensor_pickle({16}, {1}, 0, 17)), "claims 17"));
  CHECK(has(what(tensor_pickle({16}, {1}, 0, INT64_MAX)), "claims"));
  CHECK(has(what(tensor_pickle({16}, {1}, 0, 16, "torch DoubleStorage")), "claims"));
  CHECK(has(what(tensor_pickle({int64_t(1) << 40}, {0})), "unfolds"));
  CHECK(has(what(tensor_pickle({int64_t(1) << 32, int64_t(1) << 32}, {0, 0})), "2^63"));
  CHECK(has(what(tensor_pickle({1}, {1}, 0, 16, "torch ComplexFloatStorage")), "ComplexFloatStorage"));
  CHECK(has(what(tensor_pickle({1}, {1}, 0, 16, "torch Size")), "type 'torch Size'"));
}

// scripts/peers/check_pth.py sets this: every FOLDER/in/*.pth is loaded and saved to FOLDER/out.
TEST_CASE("resave for a peer" * doctest::skip(!std::getenv("ESPALIER_RESAVE"))) {
  const std::filesystem::path folder = std::getenv("ESPALIER_RESAVE");
  for (const auto& file : std::filesystem::directory_iterator(folder / "in"))
    pth::save((folder / "out" / file.path().filename()).string(), pth::load(file.path().string()), "{\"peer\": true}");
}
