// ModelSpeedup: cuts what masks have made useless out of a model - parameters, running statistics, masks, optimiser
// state - in place: the same module objects, smaller tensors. Before it believes itself it runs the example through
// both and compares.
#pragma once
#include <espalier/compress/constants.h>
#include <espalier/compress/mask.h>
#include <espalier/nn/examples.h>

#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

namespace espalier {

// How ModelSpeedup deals with what it cannot simply cut.
struct SpeedupOptions {
  Constants constants = Constants::keep;  // what becomes of masked channels that are still read as one number
};

// The indices of dimensions 0 and 1 that stay; an empty list keeps all.
using KeptIndices = std::vector<std::vector<int64_t>>;

// What was cut, and what that changed.
struct SpeedupReport {
  // A layer that has a weight.
  struct Layer {
    std::string name, type;  // "layer1.0.conv1", "Conv2d"
    Shape before, after;     // of its weight
  };
  std::vector<Layer> layers;                                                       // all that have a weight
  int64_t params_before = 0, params_after = 0, flops_before = 0, flops_after = 0;  // flops for one example
  double difference = 0;           // the largest between the outputs of the masked and the shrunk model
  double tolerance = 0;            // what rounding alone may do to this output
  double dropped = 0;              // Constants::drop: what dropping them, which is not in `difference`, did to it
  std::vector<std::string> notes;  // masked channels that stay, and who holds them; single masked weights; what the
                                   // other ways with constants would save
  std::vector<std::pair<std::string, KeptIndices>> kept;  // of every parameter and buffer that was cut, by name
};
ESPALIER_API std::ostream& operator<<(std::ostream& out, const SpeedupReport& report);  // a table

class ESPALIER_API ModelSpeedup {
 public:
  // `examples` are the model's input, or inputs, of at least one image, best real or random ones: they are what masked
  // and shrunk model are compared on. Masks come from a file or a list, or are those that the model carries.
  ModelSpeedup(Module& model, Examples examples, const std::string& masks_file, SpeedupOptions options = {});
  ModelSpeedup(Module& model, Examples examples, const Masks& masks, SpeedupOptions options = {});
  explicit ModelSpeedup(Module& model, Examples examples, SpeedupOptions options = {});

  // Removes every channel that no layer can see: wherever it is read, either it is zero whatever the input, or the
  // weights that read it are masked, perhaps because what they read was a constant that could be folded or dropped.
  // Masks that are left without a zero leave their ports. Throws, with the model as it was, if the outputs differ by
  // more than rounding - but for what dropping does, which is reported.
  const SpeedupReport& speedup_model();

 private:
  Module& model_;
  Examples examples_;
  SpeedupOptions options_;
  SpeedupReport report_;
};

}  // namespace espalier
