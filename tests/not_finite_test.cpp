// What is not a finite number goes where PyTorch lets it go: values and gradients of every operation, on every column,
// against golden_not_finite.json (scripts/peers/golden.py). NaN must meet NaN, an infinity the same infinity; what is
// finite beside them is near PyTorch's number. A network that has broken must look broken.
#include <doctest/doctest.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>

#include <cmath>
#include <functional>
#include <map>

#include "formula.h"

using namespace espalier;
using nlohmann::json;
using Operands = std::vector<Tensor>;

namespace {

std::vector<Device> columns() {
  std::vector<Device> list{{}, {Device::emulated, 0}};
  if (cuda_device_count() > 0) list.push_back({Device::cuda, 0});
  return list;
}

float number(const json& v) { return v.is_string() ? std::stof(v.get<std::string>()) : v.get<float>(); }

Tensor array(const json& a) {
  Shape shape;
  for (const json& d : a["shape"]) shape.push_back(d.get<int64_t>());
  std::vector<float> values;
  for (const json& v : a["values"]) values.push_back(number(v));
  return Tensor::from(values, shape);
}

// The number of elements that differ, and the first of them in words.
void check_same(const Tensor& got, const json& expected, const std::string& what) {
  REQUIRE_MESSAGE(got.defined(), what);
  const auto ours = got.to_vector();
  const json& theirs = expected["values"];
  REQUIRE_MESSAGE(ours.size() == theirs.size(), what);
  double largest = 1;
  for (const json& v : theirs)
    if (std::isfinite(number(v))) largest = std::max(largest, std::abs(double(number(v))));
  int wrong = 0;
  size_t first = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    const float a = ours[i], b = number(theirs[i]);
    const bool same = std::isnan(a) || std::isnan(b)   ? std::isnan(a) && std::isnan(b)
                      : std::isinf(a) || std::isinf(b) ? a == b
                                                       : std::abs(double(a) - double(b)) <= 4e-6 * largest;
    if (!same && wrong++ == 0) first = i;
  }
  CHECK_MESSAGE(wrong == 0, what << ": element " << first << " is " << ours[first] << ", PyTorch's "
                                 << number(theirs[first]) << " (" << wrong << " of " << ours.size() << " differ)");
}

// Every operation that PyTorch has under the same name: f(operands, options).
std::map<std::string, std::function<Tensor(Operands&, const json&)>> operations() {
  std::map<std::string, std::function<Tensor(Operands&, const json&)>> all;
#define X(name, ...) all[#name] = [](Operands& t, const json&) { return name(t[0]); };
  ESPALIER_UNARY(X)
#undef X
#define X(name, ...) all[#name] = [](Operands& t, const json&) { return name(t[0], t[1]); };
  ESPALIER_BINARY(X)
#undef X
  all["pow"] = [](Operands& t, const json& o) { return pow(t[0], o["exponent"].get<double>()); };
  all["clamp"] = [](Operands& t, const json& o) { return clamp(t[0], o["min"].get<double>(), o["max"].get<double>()); };
  all["smooth_l1"] = [](Operands& t, const json& o) { return smooth_l1(t[0], {o["beta"].get<float>()}); };
  all["where"] = [](Operands& t, const json&) { return where(t[0], t[1], t[2]); };
  all["amax"] = [](Operands& t, const json& o) { return amax(t[0], o["dims"].get<std::vector<int>>()); };
  all["amin"] = [](Operands& t, const json& o) { return amin(t[0], o["dims"].get<std::vector<int>>()); };
  all["l1_loss"] = [](Operands& t, const json&) { return l1_loss(t[0], t[1]); };
  all["smooth_l1_loss"] = [](Operands& t, const json&) { return smooth_l1_loss(t[0], t[1]); };
  all["leaky_relu"] = [](Operands& t, const json& o) { return leaky_relu(t[0], {o["negative_slope"].get<float>()}); };
  all["hardtanh"] = [](Operands& t, const json& o) {
    return hardtanh(t[0], {o["min_val"].get<float>(), o["max_val"].get<float>()});
  };
  all["softmax"] = [](Operands& t, const json& o) { return softmax(t[0], o["dim"].get<int>()); };
  all["log_softmax"] = [](Operands& t, const json& o) { return log_softmax(t[0], o["dim"].get<int>()); };
  all["sum"] = [](Operands& t, const json& o) { return sum(t[0], o["dims"].get<std::vector<int>>()); };
  all["mean"] = [](Operands& t, const json& o) { return mean(t[0], o["dims"].get<std::vector<int>>()); };
  const auto target = [](Operands& t, const json& o) {
    const auto labels = o["target"].get<std::vector<int64_t>>();
    return Tensor::from(labels, {int64_t(labels.size())}).to(t[0].device());
  };
  all["cross_entropy"] = [=](Operands& t, const json& o) {
    return cross_entropy(t[0], target(t, o), o["smoothing"].get<float>());
  };
  all["weighted_cross_entropy"] = [=](Operands& t, const json& o) {
    const auto w = o["weight"].get<std::vector<float>>();
    return cross_entropy(t[0], target(t, o), o["smoothing"].get<float>(),
                         Tensor::from(w, {int64_t(w.size())}).to(t[0].device()));
  };
  all["nll_loss"] = [=](Operands& t, const json& o) { return nll_loss(t[0], target(t, o)); };
  all["mse_loss"] = [](Operands& t, const json&) { return mse_loss(t[0], t[1]); };
  all["kl_div"] = [](Operands& t, const json&) { return kl_div(t[0], t[1]); };
  all["conv_transpose2d"] = [](Operands& t, const json& o) {
    return conv_transpose2d(t[0], t[1], t[2],
                            {.window = {.stride = o["stride"].get<int64_t>(),
                                        .padding = o.value("padding", 0),
                                        .dilation = o.value("dilation", 1)},
                             .output_padding = o.value("output_padding", 0),
                             .groups = o.value("groups", 1)});
  };
  all["group_norm"] = [](Operands& t, const json& o) {
    return group_norm(t[0], o["groups"].get<int64_t>(), t[1], t[2]);
  };
  all["layer_norm"] = [](Operands& t, const json& o) {
    return layer_norm(t[0], Shape(o["shape"].get<std::vector<int64_t>>()), t[1], t[2]);
  };
  all["pad"] = [](Operands& t, const json& o) {
    return pad(t[0], o["pads"].get<std::vector<int64_t>>(), double(number(o["value"])));
  };
  all["prelu"] = [](Operands& t, const json&) { return prelu(t[0], t[1]); };
  all["interpolate"] = [](Operands& t, const json& o) {
    const auto pair = [&](const char* key) { return o.contains(key) ? Pair(o[key][0], o[key][1]) : Pair(0); };
    return interpolate(t[0], {.size = pair("size"),
                              .scale_factor = pair("scale_factor"),
                              .bilinear = o["bilinear"].get<int>() != 0,
                              .align_corners = o["align_corners"].get<int>() != 0});
  };
  all["conv2d"] = [](Operands& t, const json& o) {
    return conv2d(t[0], t[1], t[2], {.stride = o.value("stride", 1), .padding = o.value("padding", 0)},
                  o.value("groups", 1));
  };
  all["linear"] = [](Operands& t, const json&) { return linear(t[0], t[1], t[2]); };
  all["matmul"] = [](Operands& t, const json&) { return matmul(t[0], t[1]); };
  all["batch_norm"] = [](Operands& t, const json& o) {
    return batch_norm(t[0], t[1], t[2], t[3], t[4],
                      {.training = o["training"].get<bool>(), .relu = o["relu"].get<bool>()});
  };
  const auto pool = [](const json& o) {
    return PoolOptions{.kernel = o["kernel"].get<int64_t>(),
                       .stride = o["stride"].get<int64_t>(),
                       .padding = o["padding"].get<int64_t>()};
  };
  all["max_pool2d"] = [=](Operands& t, const json& o) { return max_pool2d(t[0], pool(o)); };
  all["avg_pool2d"] = [=](Operands& t, const json& o) { return avg_pool2d(t[0], pool(o)); };
  all["adaptive_avg_pool2d"] = [](Operands& t, const json& o) {
    return adaptive_avg_pool2d(t[0], o["size"].get<int64_t>());
  };
  return all;
}

}  // namespace

TEST_CASE("NaN and infinities go where PyTorch lets them go, forward and backward") {
  const auto all = operations();
  std::map<std::string, int> seen;
  int number_of_case = 0;
  for (const json& c : formula::golden("golden_not_finite.json")) {
    const std::string op = c["op"];
    ++seen[op];
    const std::string label = "case " + std::to_string(number_of_case++) + ", " + op + c["options"].dump();
    for (Device device : columns()) {
      const std::string what = label + " on " + name_of(device);
      Operands operands;
      for (size_t i = 0; i < c["operands"].size(); ++i) {
        operands.push_back(array(c["operands"][i]).to(device));
        if (!c["grads"][i].is_null()) operands.back().set_requires_grad();
      }
      const Tensor y = all.at(op)(operands, c["options"]);
      check_same(y, c["y"], what + ", value");
      if (y.requires_grad()) backward(y, array(c["dy"]).to(device));
      for (size_t i = 0; i < operands.size(); ++i)
        if (!c["grads"][i].is_null())
          check_same(operands[i].grad(), c["grads"][i], what + ", gradient " + std::to_string(i));
      for (const auto& [i, expected] : c["after"].items())
        check_same(operands[std::stoul(i)], expected, what + ", operand " + i + " afterwards");
    }
  }
  for (const auto& [name, f] : all) CHECK_MESSAGE(seen[name] > 0, name << " has no case");
}

TEST_CASE("dropout multiplies: what is dropped of a NaN or an infinity is NaN, as PyTorch's mask makes it") {
  const std::vector<float> values{NAN, INFINITY, -INFINITY, 1};
  std::vector<float> many;
  for (int i = 0; i < 16; ++i) many.insert(many.end(), values.begin(), values.end());
  for (const bool channels : {false, true}) {
    const Shape shape{2, 8, 2, 2};
    const DropoutOptions options{.p = 0.5f, .seed = 3, .stream = 1, .channels = channels};
    const auto factor = dropout(Tensor::ones(shape), options).to_vector();
    for (Device device : columns()) {
      Tensor x = Tensor::from(many, shape).to(device);
      x.set_requires_grad();
      const Tensor y = dropout(x, options);
      backward(y, x.detach());
      int wrong = 0;
      for (const auto& got : {y.to_vector(), x.grad().to_vector()})
        for (size_t i = 0; i < many.size(); ++i) {
          const float expected = many[i] * factor[i];
          wrong += std::isnan(expected) ? !std::isnan(got[i]) : got[i] != expected;
        }
      CHECK_MESSAGE(wrong == 0, name_of(device));
    }
  }
}

TEST_CASE("what only moves numbers moves NaN and infinities, forward and backward") {
  const std::vector<float> values{NAN, INFINITY, -INFINITY, 1, NAN, 2, 3, -INFINITY};
  const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
    for (size_t i = 0; i < a.size(); ++i)
      if (std::isnan(a[i]) ? !std::isnan(b[i]) : a[i] != b[i]) return false;
    return a.size() == b.size();
  };
  for (Device device : columns())
    for (const auto& [name, move] : std::map<std::string, std::function<Tensor(const Tensor&)>>{
             {"reshape",
              [](const Tensor& x) {
                return reshape(x, {2, 2, 1, 2});
              }},
             {"flatten", [](const Tensor& x) { return flatten(x); }},
             {"transpose", [](const Tensor& x) { return transpose(transpose(x, 1, 3), 1, 3); }},
             {"cat and slice", [](const Tensor& x) {
                return cat({slice(x, 1, 0, 1), slice(x, 1, 1, 2)});
              }}}) {
      Tensor x = Tensor::from(values, {1, 2, 2, 2}).to(device);
      x.set_requires_grad();
      const Tensor y = move(x);
      CHECK_MESSAGE(same(values, y.to_vector()), name << " on " << name_of(device));
      backward(y, Tensor::from(values, y.shape()).to(device));
      CHECK_MESSAGE(same(values, x.grad().to_vector()), name << " on " << name_of(device));
    }
}

TEST_CASE("a masked product keeps what is not finite in kept blocks and in the input's kept columns") {
  // x [2,4], w [3,4] in blocks of 2; w's NaN lies in a masked block, inf in a kept one.
  const Tensor x = Tensor::from(std::vector<float>{NAN, 1, 1, 1, 0, 1, 1, 1}, {2, 4});
  const Tensor w = Tensor::from(std::vector<float>{1, 1, NAN, 1, 1, 1, 1, 1, 1, 1, INFINITY, 1}, {3, 4});
  const Tensor mask = Tensor::from(std::vector<uint8_t>{1, 0, 0, 1}, {2, 2});
  for (Device device : columns()) {
    Tensor y = Tensor::empty({2, 3}, DType::f32, device);
    run::masked_matmul(device, geometry::MaskedMatmul{2, 3, 4, 2}, x.to(device).in(), w.to(device).in(),
                       mask.to(device).in(), y.out());
    const auto v = y.to_vector();
    CHECK_MESSAGE(std::isnan(v[0]), name_of(device));
    CHECK_MESSAGE(std::isnan(v[1]), name_of(device));
    CHECK_MESSAGE(v[3] == 1, name_of(device));
    CHECK_MESSAGE(v[4] == 1, name_of(device));
    CHECK_MESSAGE(v[5] == INFINITY, name_of(device));
  }
}
