// The transforms that files may name without anybody having registered them: one line each.
#include <espalier/compress/distill.h>
#include <espalier/compress/mask.h>
#include <espalier/compress/quantize/fake_quant.h>

namespace espalier {

std::vector<std::pair<std::string, PortReader>> bundled_port_readers() {
  auto all = quantization_port_readers();
  all.push_back(mask_port_reader());
  all.push_back(hint_port_reader());
  return all;
}

}  // namespace espalier
