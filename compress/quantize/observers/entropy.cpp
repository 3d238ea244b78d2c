// The range that loses the least information (Migacz 2017, "8-bit inference with TensorRT"): the divergence of Kullback
// and Leibler between how numbers are distributed, those beyond the range counted at its ends, and how they are when
// all that share a code are taken for equally frequent.
#include <espalier/compress/quantize/histogram.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace espalier {

namespace {

constexpr int steps = 128;  // of which the last half is tried

class Entropy : public HistogramObserver {
 public:
  using HistogramObserver::HistogramObserver;
  std::string_view name() const override { return "entropy"; }

 protected:
  Clip clip(const Histogram& seen) const override {
    const std::vector<int64_t> bins = seen.bins();
    Clip best{seen.least(), seen.most()};
    double least = divergence(seen, bins, best);
    for (int k = steps - 1; k >= steps / 2; --k) {
      const float part = float(k) / float(steps);
      const Clip clip{seen.least() * part, seen.most() * part};
      if (const double d = divergence(seen, bins, clip); d < least) least = d, best = clip;
    }
    return best;
  }

 private:
  double divergence(const Histogram& seen, const std::vector<int64_t>& bins, Clip clip) const {
    struct Code {
      double numbers = 0, places = 0;
    };
    std::map<double, Code> codes;  // by the value they are rounded to
    std::vector<double> p;         // of the bins within the range, from the lowest
    std::vector<Code*> code_of;
    double below = 0, above = 0;
    const Rounded rounds = rounded(clip);
    for (size_t i = 0; i < bins.size(); ++i) {
      const double x = seen.center(int64_t(i));
      if (x < double(clip.first)) {
        below += double(bins[i]);
      } else if (x > double(clip.second)) {
        above += double(bins[i]);
      } else {
        Code& code = codes[rounds(x)];
        code.numbers += double(bins[i]);
        code.places += bins[i] > 0;
        p.push_back(double(bins[i]));
        code_of.push_back(&code);
      }
    }
    if (p.empty()) return INFINITY;
    double inside = 0;
    for (const double n : p) inside += n;
    std::vector<double> q;
    for (size_t i = 0; i < p.size(); ++i) q.push_back(p[i] > 0 ? code_of[i]->numbers / code_of[i]->places : 0);
    p.front() += below, p.back() += above;
    const double all = inside + below + above;
    double sum = 0;
    for (size_t i = 0; i < p.size(); ++i) {
      if (p[i] == 0) continue;
      sum +=
          p[i] / all * std::log(p[i] / all * inside / std::max(q[i], 1.));  // an end may hold numbers of beyond alone
    }
    return sum;
  }
};

}  // namespace

std::unique_ptr<Observer> make_entropy_observer(ObserverOptions options) { return std::make_unique<Entropy>(options); }

}  // namespace espalier
