// Examples: what a model is given to be traced, counted, pruned, compared or exported with - one tensor, or several in
// the order of its forward(). Every function that takes them reads as for one: trace(net, x), .example = x,
// ModelSpeedup(net, {image, table}).
#pragma once
#include <espalier/core/tensor.h>

#include <algorithm>
#include <initializer_list>
#include <utility>
#include <vector>

namespace espalier {

struct Examples : std::vector<Tensor> {
  Examples() = default;
  Examples(Tensor x) { push_back(std::move(x)); }
  Examples(std::initializer_list<Tensor> all) : vector(all) {}
  explicit Examples(std::vector<Tensor> all) : vector(std::move(all)) {}

  // There is at least one, and none of them is undefined.
  bool defined() const {
    return !empty() && std::all_of(begin(), end(), [](const Tensor& x) { return x.defined(); });
  }
  // Each of them on that device.
  Examples to(Device device) const {
    Examples there;
    for (const Tensor& x : *this) there.push_back(x.to(device));
    return there;
  }
};

}  // namespace espalier
