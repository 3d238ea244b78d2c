// model_prune --search and --budget: which ratios, found in trials, and what they cost, measured; and --seeds, a tool
// run once per seed.
#pragma once
#include <espalier/compress/config.h>

#include "common.h"

namespace espalier::tool {

// --search --budget --search-images --search-steps --search-settings --max-sparsity --latency-table
void add_search_options(cxxopts::OptionAdder& add);
bool searches(const Context& context);  // does the command ask for one?
// In the place of pruning once: train, search, fine-tune, export. Ends in an error where the budget is missed, once all
// is written.
void search(Context& context, const std::string& base_algo, const ConfigList& config);

// The same command once per seed, into OUT/seed-N; then the mean and the deviation of every accuracy in the summaries.
void over_seeds(Context& context, int64_t seeds, const std::vector<std::string>& arguments,
                int (*tool_main)(int argc, char** argv));

}  // namespace espalier::tool
