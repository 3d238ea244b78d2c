// A network small enough that a file of a few hundred bytes holds all of it.
#pragma once
#include <espalier/compress/config.h>
#include <espalier/nn/layers.h>

namespace espalier::fuzz {

class Small : public Module {
 public:
  std::string_view type() const override { return "Small"; }
  void members(Members& m) override {
    m("conv", conv);
    m("norm", norm);
    m("fc", fc);
  }
  Conv2d conv{1, 2, {.kernel = 3}};
  BatchNorm2d norm{2};
  Linear fc{2, 3};

 protected:
  Tensor forward(const Tensor& x) override { return fc(flatten(adaptive_avg_pool2d(norm.with_relu(conv(x)), 1))); }
};

// What quantizers are asked of it.
inline ConfigList small_config() {
  return {{.op_names = {"conv", "fc"}, .quant_types = {"weight", "input"}, .quant_bits = 8},
          {.op_names = {"norm"}, .quant_types = {"output"}, .quant_bits = 4}};
}

}  // namespace espalier::fuzz
