// One program that is every tool.
#include "tools.h"

#include <espalier/core/nearest.h>

#include <iostream>
#include <string>
#include <utility>
#include <vector>

namespace espalier::tool {

int main(int argc, char** argv) {
  using Main = int (*)(int, char**);
  static const std::vector<std::pair<std::string, Main>> all{{"train", train_main},
                                                             {"model_prune", model_prune_main},
                                                             {"model_quantize", model_quantize_main},
                                                             {"model_speedup", model_speedup_main},
                                                             {"evaluate", evaluate_main},
                                                             {"predict", predict_main},
                                                             {"quickstart", quickstart_main},
                                                             {"report", report_main},
                                                             {"sensitivity", sensitivity_main}};
  const std::string wanted = argc > 1 ? argv[1] : "";
  std::vector<std::string> names;
  std::string list;
  for (const auto& [name, run] : all) {
    if (name == wanted) return run(argc - 1, argv + 1);
    names.push_back(name);
    list += (list.empty() ? "" : ", ") + name;
  }
  const bool help = wanted == "--help" || wanted == "-h";
  (help ? std::cout : std::cerr) << (argc > 0 ? argv[0] : "espalier") << ": expected one of " << list
                                 << (wanted.empty() || help ? "" : ", got \"" + wanted + "\"")
                                 << did_you_mean(wanted, names) << " (TOOL --help explains it)" << std::endl;
  return help && std::cout.good() ? 0 : 2;
}

}  // namespace espalier::tool
