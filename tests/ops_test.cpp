// Operations, case by case: values and gradients on every column that is present.
#include <doctest/doctest.h>
#include <espalier/core/kernels.h>
#include <espalier/core/ops/ops.h>

#include <cmath>

using namespace espalier;

TEST_CASE("a small network learns through every kind of op") {
  std::vector<float> v(2 * 3 * 6 * 6), w(4 * 3 * 3 * 3), lw(2 * 36);
  for (size_t i = 0; i < v.size(); ++i) v[i] = std::sin(float(i) * 0.7f);
  for (size_t i = 0; i < w.size(); ++i) w[i] = std::cos(float(i) * 1.3f) * 0.3f;
  for (size_t i = 0; i < lw.size(); ++i) lw[i] = std::sin(float(i) * 2.1f) * 0.2f;
  Tensor x = Tensor::from(v, {2, 3, 6, 6});
  Tensor weight = Tensor::from(w, {4, 3, 3, 3}), head = Tensor::from(lw, {2, 36});
  Tensor gamma = Tensor::ones({4}), beta = Tensor::zeros({4}), rm = Tensor::zeros({4}), rv = Tensor::ones({4});
  const Tensor target = Tensor::from(std::vector<int64_t>{0, 1}, {2});
  double first = 0, last = 0;
  for (int step = 0; step < 10; ++step) {
    for (Tensor* t : {&weight, &head, &gamma, &beta}) t->set_requires_grad();
    Tensor h = batch_norm(conv2d(x, weight, {}, {.padding = 1}), gamma, beta, rm, rv, {.relu = true});
    const Tensor loss = cross_entropy(linear(flatten(max_pool2d(h, {.kernel = 2})), head), target);
    backward(loss);
    last = loss.item();
    if (step == 0) first = last;
    for (Tensor* t : {&weight, &head, &gamma, &beta})
      run::sgd(Device{}, SgdStep{.lr = 0.1f}, t->grad(), t->out(), Out{});
  }
  CHECK(first == doctest::Approx(0.690226).epsilon(1e-5));  // PyTorch 2.15 on the same numbers
  CHECK(last == doctest::Approx(0.595442).epsilon(1e-4));
}
