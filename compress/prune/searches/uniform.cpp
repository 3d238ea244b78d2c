// Uniform: the same part of every cluster, the least that meets what is asked for. No search is judged without it: what
// another finds at the same cost has to be better than this.
#include <espalier/compress/prune/searches.h>

namespace espalier {

SearchMethod uniform_search() {
  return {.name = "uniform", .settings = {}, .run = [](SearchRun& run) {
            std::vector<double> same(run.clusters().size(), 0.1);
            if (!run.scale_to_budget(same)) {
              same.assign(same.size(), run.options.max_sparsity);
              run.note("max_sparsity of every cluster does not meet it");
            }
            run.expect(run.next() + 1);
            return Found{same, run.evaluate(same)};
          }};
}

}  // namespace espalier
