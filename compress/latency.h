// Latency: milliseconds of this machine. A network is timed as it ships, through the Engine; one that is only thought
// of is the sum of its layers, each timed by itself once per geometry and width, on a grid of 16 channels, and kept in
// a table. A factor, from a network that was timed whole, stands for what the sum leaves out.
#pragma once
#include <espalier/compress/resources.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace espalier {

// Times of n runs, one after the other.
struct Timing {
  double median = 0, low = 0, high = 0;  // ms; the 10th and the 90th percentile
  int n = 0;
};
// The model in eval mode through an Engine on the CPU, `batch` images at once, after a warm-up. Of several spells of
// runs the quietest: others on the machine only add. There are five, of `seconds` together and at least 15 runs, and
// more, 30 at most, until three agree within 2 %.
ESPALIER_API Timing measure_latency(Module& model, const Examples& examples, int64_t batch, double seconds = 0.5);

// The layers and networks that were timed on this machine.
class ESPALIER_API LatencyTable {
 public:
  // What is at `path`, if anything is; "": kept in memory only. Throws data on a file that is no such table, usage on
  // one of another processor, number of threads or instruction set: milliseconds do not travel.
  explicit LatencyTable(std::string path = {}, int64_t batch = 1);

  // One layer; widths between the grid's are interpolated. Measures what the table lacks.
  double layer(const LayerShape& layer);
  // The same of all of them, added up.
  double sum(const std::vector<LayerShape>& layers);
  // A whole network under a name of the caller's, kept so that a resumed search sees the same number: `measure` is
  // asked the first time.
  Timing network(const std::string& name, const std::function<Timing()>& measure);

  // Called whenever something was measured, with how many layers and networks this table has measured itself.
  void tell(std::function<void(int64_t)> measured) { tell_ = std::move(measured); }
  void save() const;  // where it came from
  // How many times of layers it holds, and for how many images at once: batch().
  size_t size() const { return layers_.size(); }
  int64_t batch() const { return batch_; }

 private:
  double node(const LayerShape& layer, int64_t in, int64_t out);

  std::string path_;
  int64_t batch_;
  std::map<std::string, double> layers_;  // "conv2d 3x3 s1 p1 32x32 b1 64->128"
  std::map<std::string, Timing> networks_;
  std::function<void(int64_t)> tell_;
  int64_t measured_ = 0;
};

ESPALIER_API std::string machine_name();  // "AMD EPYC ..., 2 threads, all that it has"

}  // namespace espalier
