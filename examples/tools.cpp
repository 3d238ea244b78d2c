// One program that is every tool.
#include "tools.h"

#include <espalier/core/nearest.h>

#include <cstdio>
#include <sstream>
#include <string>
#include <vector>

#include "common.h"

namespace espalier::tool {

namespace {

struct Tool {
  const char *name, *short_name;  // either is understood
  int (*run)(int, char**);
  const char* what;
};

const Tool all[]{{"train", "train", train_main, "train a network"},
                 {"model_prune", "prune", model_prune_main, "mask what matters least, and fine-tune"},
                 {"model_quantize", "quantize", model_quantize_main, "find codes of few bits, after training or in it"},
                 {"model_speedup", "speedup", model_speedup_main, "cut out what is masked, and time both"},
                 {"evaluate", "evaluate", evaluate_main, "accuracy, logits and codes of a .pth"},
                 {"predict", "predict", predict_main, "the classes that a .pth sees"},
                 {"sensitivity", "sensitivity", sensitivity_main, "what pruning one layer costs the network"},
                 {"report", "report", report_main, "pictures from CSV files"},
                 {"quickstart", "quickstart", quickstart_main, "the whole story on a VGG-19"}};

std::string help_of(const std::string& program) {
  std::ostringstream out;
  out << "Usage:\n  " << program
      << " TOOL [options]\n\nTrains, prunes, quantizes, shrinks and runs neural networks.\n\n";
  char line[200];
  for (const Tool& t : all) {
    std::snprintf(line, sizeof line, "  %-11s %s\n", t.short_name, t.what);
    out << line;
  }
  out << "\n"
      << program << " TOOL --help explains one of them; " << program << " --version says what this was built "
      << "with.\n";
  return out.str();
}

}  // namespace

int main(int argc, char** argv) {
  const std::string program = argc > 0 ? argv[0] : "espalier", wanted = argc > 1 ? argv[1] : "";
  const bool json = asks_for_json(argc, argv);
  std::vector<std::string> names;
  std::string list;
  for (const Tool& t : all) {
    if (wanted == t.name || wanted == t.short_name) return t.run(argc - 1, argv + 1);
    names.push_back(t.short_name);
    list += (list.empty() ? "" : ", ") + names.back();
  }
  try {
    if (wanted == "--help" || wanted == "-h") return answer(json, "help", help_of(program));
    if (wanted == "--version") return answer(json, "version", version_of("espalier"));
    if (wanted == "--list") {  // for completion
      std::string lines;
      for (const std::string& name : names) lines += name + '\n';
      return answer(json, "tools", lines);
    }
  } catch (const Error& e) { return complain(program, json, e.exit_code(), e.what()); }
  return complain(program, json, 2,
                  "expected one of " + list + (wanted.empty() ? "" : ", got \"" + wanted + "\"") +
                      did_you_mean(wanted, names) + " (--help explains them)");
}

}  // namespace espalier::tool
