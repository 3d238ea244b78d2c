// The negative log-likelihood of class indices, with label smoothing (Szegedy et al. 2016, arXiv 1512.00567).
// Batches are short, so one thread sums them, in double.
#include <espalier/core/cpu/kernels.h>

namespace espalier::cpu {

namespace {

int64_t checked(const int64_t* target, int64_t row, int64_t classes) {
  if (target[row] < 0 || target[row] >= classes)
    fail(ErrorKind::other, "[nll_loss] target ", target[row], " of image ", row, " is not one of ", classes,
         " classes");
  return target[row];
}

}  // namespace

void nll_loss(const Nll& g, In logp, In target, In weight, Out loss) {
  const float *p = logp.f32(), *w = weight.f32();
  double sum = 0, weights = 0;
  for (int64_t r = 0; r < g.n; ++r) {
    const float* row = p + r * g.c;
    const int64_t label = checked(target.as<int64_t>(), r, g.c);
    const double unit = w ? double(w[label]) : 1;
    double all = 0;
    if (g.smoothing > 0)
      for (int64_t i = 0; i < g.c; ++i) all += (w ? double(w[i]) : 1) * double(row[i]);
    sum -= (1 - double(g.smoothing)) * unit * double(row[label]) + double(g.smoothing) / double(g.c) * all;
    weights += unit;
  }
  loss.f32()[0] = float(sum / weights);
}

void nll_loss_grad(const Nll& g, In target, In weight, In dloss, Out dlogp) {
  const float* w = weight.f32();
  double weights = double(g.n);
  if (w) {
    weights = 0;
    for (int64_t r = 0; r < g.n; ++r) weights += double(w[checked(target.as<int64_t>(), r, g.c)]);
  }
  const double unit = -double(dloss.f32()[0]) / weights;
  // Without smoothing the other classes have no part in the loss: 0, not 0 times a gradient that may be infinite.
  const double part = g.smoothing > 0 ? unit * double(g.smoothing) / double(g.c) : 0;
  for (int64_t r = 0; r < g.n; ++r) {
    float* row = dlogp.f32() + r * g.c;
    for (int64_t i = 0; i < g.c; ++i) row[i] = float(w && part != 0 ? part * double(w[i]) : part);
    const int64_t label = checked(target.as<int64_t>(), r, g.c);
    row[label] = float((unit * (1 - double(g.smoothing)) + part) * (w ? double(w[label]) : 1));
  }
}

}  // namespace espalier::cpu
