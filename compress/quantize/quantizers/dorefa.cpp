// DoReFa-Net's weights (Zhou et al. 2016, arXiv 1606.06160). NNI's gradient passes the tanh as if it were not there.
#include <espalier/compress/quantize/quantizers.h>

namespace espalier {

Scheme dorefa_scheme() {
  const auto make = [](const Target& t) -> std::shared_ptr<Transform> {
    return std::make_shared<DoReFa>(t.bits, t.nni_compatible, t.device);
  };
  return {.name = "dorefa", .targets = {"weight"}, .keeps_zero = false, .make = make};
}

}  // namespace espalier
