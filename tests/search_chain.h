// What the tests of searches search in: a chain of three convolutions, and a performance that is a plain function of
// it.
#pragma once
#include <espalier/compress/prune/searches.h>
#include <espalier/core/io/file.h>
#include <espalier/nn/activations.h>
#include <espalier/nn/init.h>
#include <espalier/nn/layers.h>
#include <espalier/nn/models.h>

#include "training.h"

namespace search_chain {

using namespace espalier;
using training::Folder;

// A network of three convolutions; the second matters most.
struct Chain : Module {
  Sequential body;
  Chain() {
    manual_seed(5);
    body.add<Conv2d>(3, 16, Conv2dOptions{.kernel = 3, .padding = 1});
    body.add<ReLU>();
    body.add<Conv2d>(16, 32, Conv2dOptions{.kernel = 3, .padding = 1});
    body.add<BatchNorm2d>(32);
    body.add<ReLU>();
    body.add<Conv2d>(32, 64, Conv2dOptions{.kernel = 3, .padding = 1});
    body.add<ReLU>();
    body.add<AdaptiveAvgPool2d>(Pair(1));
    body.add<Flatten>();
    body.add<Linear>(64, 10);
  }
  std::string_view type() const override { return "Chain"; }
  void members(Members& m) override { m("body", body); }
  Tensor forward(const Tensor& x) override { return body(x); }
};

inline const Tensor chain_input = Tensor::zeros({1, 3, 8, 8});
inline const ConfigList half{{.op_types = {"Conv2d"}, .sparsity = 0.5}};

inline ConfigList all_conv(double sparsity) { return {{.op_types = {"Conv2d"}, .sparsity = sparsity}}; }

// Of weights alone: what is left of each layer's, weighed differently. A search's performance is then a plain function.
inline double weighed(Module& model) {
  double sum = 0, factor = 1;
  for (auto& [name, p] : named_parameters(model)) {
    if (p->value().rank() != 4) continue;
    double layer = 0, all = 0;
    const auto seen = (*p)().detach().to_vector(), raw = p->value().to_vector();
    for (const float w : seen) layer += std::abs(double(w));
    for (const float w : raw) all += std::abs(double(w));
    sum += factor * layer / all;
    factor = factor == 1 ? 3 : 0.5;
  }
  return sum / 4.5;
}

inline SearchOptions options_for(const std::string& folder = {}) {
  return {.evaluator = weighed, .folder = folder, .example = chain_input, .seed = 11};
}

inline double masked_weights(Module& model) {
  double gone = 0, all = 0;
  for (auto& [name, p] : named_parameters(model)) {
    if (p->value().rank() != 4) continue;
    all += double(p->value().numel());
    if (const Mask* mask = mask_of(*p)) gone += masked_part(mask->value()) * double(p->value().numel());
  }
  return gone / all;
}

inline std::string masks_text(Module& model) {
  std::string all;
  for (const auto& [name, mask] : masks_of(model))
    all += name + std::string(static_cast<const char*>(mask.in().data), mask.bytes());
  return all;
}

inline Tensor loss(const Tensor& y, const Tensor& t) { return cross_entropy(y, t); }

struct Killed {};

}  // namespace search_chain
