// The list of models: a name, an input, a constructor.
#include <espalier/core/nearest.h>
#include <espalier/nn/models.h>

#include <deque>

namespace espalier {

namespace {

struct Entry {
  ModelInfo info;
  ModelFactory make;
  bool has_smooth;
};

std::deque<Entry>& entries() {  // a deque, so that model_info's references stay when more are registered
  static std::deque<Entry> list = [] {
    std::deque<Entry> all;
    const auto add = [&](std::string name, bool has_smooth, ModelFactory make) {
      const bool digits = name == "lenet" || name == "naive";
      ModelInfo info{std::move(name), digits ? Shape{1, 28, 28} : Shape{3, 32, 32}, digits};
      all.push_back({std::move(info), std::move(make), has_smooth});
    };
    add("lenet", false, make_lenet);
    add("naive", true, make_naive);
    for (int depth : {11, 13, 16, 19})
      add("vgg" + std::to_string(depth), true, [depth](ModelOptions o) { return make_vgg(depth, o); });
    add("resnet18", true, [](ModelOptions o) { return make_resnet({64, 128, 256, 512}, 2, o); });
    add("resnet20", true, [](ModelOptions o) { return make_resnet({16, 32, 64}, 3, o); });
    add("resnet56", true, [](ModelOptions o) { return make_resnet({16, 32, 64}, 9, o); });
    add("mobilenetv2", false, make_mobilenetv2);
    return all;
  }();
  return list;
}

constexpr std::string_view suffix = "-smooth";

bool asks_smooth(const std::string& name) { return name.ends_with(suffix); }

const Entry& find(const std::string& name) {
  const std::string base = asks_smooth(name) ? name.substr(0, name.size() - suffix.size()) : name;
  std::vector<std::string> names;
  for (const Entry& e : entries()) {
    if (e.info.name == base) return e;
    names.push_back(e.info.name);
  }
  std::string known;
  for (const std::string& n : names) known += (known.empty() ? "" : ", ") + n;
  fail(ErrorKind::usage, "[model] unknown model ", name, did_you_mean(base, names), "; the models are ", known);
}

}  // namespace

std::vector<ModelInfo> model_list() {
  std::vector<ModelInfo> all;
  for (const Entry& e : entries()) all.push_back(e.info);
  return all;
}

const ModelInfo& model_info(const std::string& name) { return find(name).info; }

std::unique_ptr<Module> make_model(const std::string& name, ModelOptions options) {
  const Entry& entry = find(name);
  options.smooth = options.smooth || asks_smooth(name);
  if (options.smooth && !entry.has_smooth) fail(ErrorKind::usage, "[model] ", entry.info.name, " has no smooth twin");
  if (options.classes == 0) options.classes = entry.info.classes;
  if (options.classes < 1) fail(ErrorKind::usage, "[model] ", options.classes, " classes, expected 1 or more");
  return entry.make(options);
}

void register_model(ModelInfo info, ModelFactory make) {
  const std::string& name = info.name;
  if (name.empty() || asks_smooth(name))
    fail(ErrorKind::usage, "[register_model] \"", name, "\", expected a name that does not end in \"", suffix, "\"");
  for (const Entry& e : entries())
    if (e.info.name == name) fail(ErrorKind::usage, "[register_model] there is a model ", name, " already");
  if (info.input.rank() != 3 || info.input.numel() < 1)
    fail(ErrorKind::usage, "[register_model] ", name, " takes ", info.input, ", expected [C,H,W]");
  if (info.classes < 1) fail(ErrorKind::usage, "[register_model] ", name, " has ", info.classes, " classes");
  if (!make) fail(ErrorKind::usage, "[register_model] ", name, " has nothing that makes it");
  entries().push_back({std::move(info), std::move(make), false});
}

}  // namespace espalier
