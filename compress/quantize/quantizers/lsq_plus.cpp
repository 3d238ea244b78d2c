// LSQ+ (Bhalgat et al. 2020, arXiv 2004.09576): LSQ whose activations have an offset that learns, too, and whose first
// scales come from spread and error.
#include <espalier/compress/quantize/quantizers.h>

namespace espalier {

Scheme lsq_plus_scheme() { return learned_scheme("lsq_plus", true); }

}  // namespace espalier
