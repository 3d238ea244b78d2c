// Config lists: NNI's selection rules, and one clear line for whatever is not understood.
#include <doctest/doctest.h>
#include <espalier/compress/config.h>

using namespace espalier;

namespace {

struct Layer : Module {
  explicit Layer(std::string t) : type_(std::move(t)) {}
  std::string_view type() const override { return type_; }
  Tensor forward(const Tensor& x) override { return x; }
  std::string type_;
};

struct Net : Module {
  std::string_view type() const override { return "Net"; }
  void members(Members& m) override { m("conv1", conv1), m("bn1", bn1), m("conv2", conv2), m("bn2", bn2), m("fc", fc); }
  Tensor forward(const Tensor& x) override { return x; }
  Layer conv1{"Conv2d"}, bn1{"BatchNorm2d"}, conv2{"Conv2d"}, bn2{"BatchNorm2d"}, fc{"Linear"};
};

// "conv1 0.5, fc 0.9": what a list selects from Net.
std::string selected(const ConfigList& list) {
  Net net;
  std::string text;
  for (const auto& layer : select(net, list, default_op_types()).layers) {
    std::ostringstream number;
    number << layer.sparsity;
    text += (text.empty() ? "" : ", ") + layer.name + " " + number.str();
  }
  return text;
}

std::string complaint(const std::string& json) {
  Net net;
  try {
    select(net, parse_config(json), default_op_types());
  } catch (const Error& e) { return (e.kind() == ErrorKind::data ? "data: " : "usage: ") + std::string(e.what()); }
  return "none";
}

}  // namespace

TEST_CASE("selection: types and names, the last match wins entirely") {
  CHECK(selected({{.op_types = {"Conv2d"}, .sparsity = 0.5}}) == "conv1 0.5, conv2 0.5");
  CHECK(selected({{.op_types = {"default"}, .sparsity = 0.5}}) == "conv1 0.5, conv2 0.5, fc 0.5");
  CHECK(selected({{.op_types = {"default"}, .sparsity = 0.5}, {.op_names = {"conv2", "bn1"}, .sparsity = 0.25}}) ==
        "conv1 0.5, bn1 0.25, conv2 0.25, fc 0.5");
  CHECK(selected({{.op_types = {"Conv2d"}, .op_names = {"conv1", "fc"}, .sparsity = 0.5}}) == "conv1 0.5");
  CHECK(selected({{.op_types = {"default"}, .sparsity = 0.5}, {.op_names = {"fc"}, .exclude = true}}) ==
        "conv1 0.5, conv2 0.5");
  // A later entry brings an excluded layer back, as in NNI.
  CHECK(selected({{.op_names = {"fc"}, .exclude = true}, {.op_types = {"Linear"}, .sparsity = 0.75}}) == "fc 0.75");
}

TEST_CASE("JSON means the same as C++ and survives a round trip") {
  const std::string text = R"([{"op_types":["default"],"sparsity":0.5},{"exclude":true,"op_names":["fc"]}])";
  const ConfigList list = parse_config(text);
  CHECK(selected(list) == "conv1 0.5, conv2 0.5");
  CHECK(to_json(list) == text);
}

TEST_CASE("quantizers' keys survive a round trip, and pruners refuse them by name") {
  for (const char* text : {R"([{"op_types":["Conv2d"],"quant_bits":8,"quant_types":["weight"]}])",
                           R"([{"op_names":["fc"],"quant_bits":{"output":8,"weight":4},"quant_scheme":)"
                           R"("per_channel_symmetric","quant_start_step":7,"quant_types":["weight","output"]}])"}) {
    CHECK(to_json(parse_config(text)) == text);
    CHECK(complaint(text) == "usage: [config] entry 1: quant_types is for quantizers, and this is a pruner's list");
  }
  const auto with = [](const std::string& more) {
    return complaint(R"([{"op_types": ["Conv2d"], "quant_types": ["weight"], )" + more + "}]");
  };
  CHECK(with(R"("quant_bits": "8")") == "usage: [config] entry 1: quant_bits is \"8\", expected an integer");
  CHECK(with(R"("quant_bits": 2.5)") == "usage: [config] entry 1: quant_bits is 2.5, expected an integer");
  CHECK(with(R"("quant_bits": 18446744073709551615)").find("which is too large") != std::string::npos);
  CHECK(with(R"("quant_bits": {"wieght": 8})").find("did you mean \"weight\"?") != std::string::npos);
  CHECK(with(R"("quant_bits": {"output": 8})") == "usage: [config] entry 1: quant_bits says nothing about weight");
  CHECK(with(R"("quant_bits": 8, "quant_start_step": -1)").find("is -1, expected 0 or more") != std::string::npos);
  CHECK(with(R"("quant_bits": 8, "quant_scheme": 3)").find("quant_scheme is 3, expected one of") != std::string::npos);
}

TEST_CASE("entries without effect are reported") {
  Net net;
  const auto warnings = [&](const ConfigList& list) { return select(net, list, default_op_types()).warnings; };
  CHECK(warnings({{.op_types = {"Conv2d"}, .sparsity = 0.5}}).empty());
  const auto nothing = warnings({{.op_types = {"Conv2D"}, .sparsity = 0.5}});
  REQUIRE(nothing.size() == 2);
  CHECK(nothing[0] == "[config] entry 1: the model has no layer of type Conv2D (did you mean \"Conv2d\"?)");
  CHECK(nothing[1] == "[config] entry 1 matches no layer");
  const auto mixed = warnings({{.op_types = {"Linear"}, .op_names = {"conv1"}, .sparsity = 0.5}});
  REQUIRE(mixed.size() == 1);
  CHECK(mixed[0] == "[config] entry 1 matches no layer: conv1 is of another type");
  const auto hidden = warnings({{.op_names = {"fc"}, .sparsity = 0.5}, {.op_types = {"Linear"}, .sparsity = 0.25}});
  REQUIRE(hidden.size() == 1);
  CHECK(hidden[0] == "[config] entry 1 has no effect: later entries override it for every layer");
}

TEST_CASE("what is not understood is refused in one line") {
  CHECK(complaint(R"([{"sparcity": 0.5, "op_types": ["Conv2d"]}])") ==
        "usage: [config] entry 1: unknown key \"sparcity\" (did you mean \"sparsity\"?); known are sparsity, op_types, "
        "op_names, exclude, initial_sparsity, final_sparsity, start_epoch, end_epoch, frequency, prune_iterations, "
        "quant_types, quant_bits, quant_start_step, quant_scheme");
  CHECK(complaint(R"([{"sparsity": 0.5, "op_names": ["conf1"]}])") ==
        "usage: [config] entry 1: the model has no layer \"conf1\" (did you mean \"conv1\"?)");
  for (const char* bad : {"0", "1", "1.5", "-0.5", "0.0", "1.0"})
    CHECK(complaint("[{\"op_types\": [\"Conv2d\"], \"sparsity\": " + std::string(bad) + "}]")
              .find(", expected more than 0 and less than 1") != std::string::npos);
  CHECK(complaint(R"([{"op_types": ["Conv2d"], "sparsity": "0.5"}])") ==
        "usage: [config] entry 1: sparsity is \"0.5\", expected a number between 0 and 1");
  CHECK(complaint(R"([{"op_types": ["Conv2d"]}])") ==
        "usage: [config] entry 1 has no sparsity and does not say exclude");
  CHECK(complaint(R"([{"sparsity": 0.5}])") == "usage: [config] entry 1 has neither op_types nor op_names");
  CHECK(complaint(R"([{"sparsity": 0.5, "op_types": []}])") ==
        "usage: [config] entry 1: op_types is empty, which would match no layer");
  CHECK(complaint(R"([{"sparsity": 0.5, "op_types": "default"}])") ==
        "usage: [config] entry 1: op_types is \"default\", expected a list of strings");
  CHECK(complaint(R"([{"sparsity": 0.5, "op_types": ["Conv2d", 3]}])") ==
        "usage: [config] entry 1: op_types is [\"Conv2d\",3], expected a list of strings");
  CHECK(complaint(R"([{"op_types": ["Conv2d"], "exclude": 1}])") ==
        "usage: [config] entry 1: exclude is 1, expected true or false");
  CHECK(complaint("[]") == "usage: [config] the config list is empty");
  CHECK(complaint("{}") == "usage: [config] is {}, expected a list of objects");
  CHECK(complaint(R"([{"sparsity": 0.5, "sparsity": 0.6, "op_types": ["Conv2d"]}])") ==
        "usage: [config] key \"sparsity\" is given twice in one entry");
}

TEST_CASE("hostile text ends in one line, soon") {
  CHECK(complaint("").find("data: [config] not JSON: ") == 0);
  CHECK(complaint("[{").find("data: [config] not JSON: ") == 0);
  CHECK(complaint("[{\"sparsity\": 1e999999}]").find("data: [config] not JSON: ") == 0);
  CHECK(complaint("\xff\xfe[]").find("data: ") == 0);
  CHECK(complaint(std::string(100000, '[')) == "data: [config] nested deeper than 8 levels");
  CHECK(complaint(std::string(2 << 20, ' ')).find("data: [config] 2097152 bytes are too many") == 0);
  CHECK(complaint("[{\"op_types\": [\"" + std::string(1000, 'x') + "\"], \"sparsity\": {}}]").size() < 200);
  CHECK_THROWS_AS(load_config("/nonexistent/config.json"), Error);
  CHECK_THROWS_AS(load_config("/"), Error);
}
