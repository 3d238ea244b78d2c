// The operations by name, as PyTorch's torch.nn.functional has them. Each checks shapes, computes on the device of
// its operands and records itself; the ops' own knowledge is in the .cpp files of this folder.
// Images are [N,C,H,W]; sizes along two axes are Pair{h, w} or one number for both.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/elementwise.h>
#include <espalier/core/qparams.h>
#include <espalier/core/tape.h>

#include <string>
#include <vector>

namespace espalier {

struct Pair {
  int64_t h, w;
  constexpr Pair(int64_t both) : h(both), w(both) {}
  constexpr Pair(int64_t h_, int64_t w_) : h(h_), w(w_) {}
  bool operator==(const Pair&) const = default;
};

// ---- conv2d.cpp, linear.cpp
struct Window {
  Pair stride = 1, padding = 0, dilation = 1;
};
// x [N,C,H,W], weight [O,C/groups,KH,KW], bias [O] or absent -> [N,O,OH,OW]. Depthwise is groups == C.
ESPALIER_API Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, Window window = {},
                           int64_t groups = 1);
// x [N,I], weight [O,I], bias [O] or absent -> [N,O].
ESPALIER_API Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
// a [..,M,K] (or [..,K,M] with trans_a), b [..,K,N] (or [..,N,K]); rank 2 or 3, equal batch -> [..,M,N].
ESPALIER_API Tensor matmul(const Tensor& a, const Tensor& b, bool trans_a = false, bool trans_b = false);

// ---- batch_norm.cpp (Ioffe & Szegedy 2015, arXiv 1502.03167)
struct BatchNormOptions {
  bool training = true;   // batch statistics, and running ones updated; else the running ones are used
  float momentum = 0.1f;  // running = (1-momentum)·running + momentum·batch; variance unbiased, as PyTorch's
  float eps = 1e-5f;
  bool relu = false;  // max(0, .) in the same pass
};
// x [N,C,H,W] or [N,C]; weight, bias, running_mean, running_var [C].
ESPALIER_API Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& running_mean,
                               Tensor& running_var, BatchNormOptions options = {});

// ---- pool.cpp
struct PoolOptions {
  Pair kernel = 2;
  Pair stride = 0;  // 0: the kernel
  Pair padding = 0;
  bool count_include_pad = true;  // avg_pool2d only
};
ESPALIER_API Tensor max_pool2d(const Tensor& x, PoolOptions options);
ESPALIER_API Tensor avg_pool2d(const Tensor& x, PoolOptions options);
ESPALIER_API Tensor adaptive_avg_pool2d(const Tensor& x, Pair output);

// ---- elementwise.cpp: relu(x), leaky_relu(x, {.negative_slope = 0.2f}), ...; add(a, b) with broadcasting, ...
#define X(name, Functor, ...) ESPALIER_API Tensor name(const Tensor& x, fn::Functor f = {});
ESPALIER_UNARY(X)
#undef X
#define X(name, Functor, expression) ESPALIER_API Tensor name(const Tensor& a, const Tensor& b);
ESPALIER_BINARY(X)
#undef X
// To another element type, rounded to nearest; between f32 and bf16 gradients flow.
ESPALIER_API Tensor cast(const Tensor& x, DType to);
inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }

// ---- dropout.cpp: zero with probability p, else x/(1-p); the draw is a function of (seed, stream) alone.
struct DropoutOptions {
  float p = 0.5f;
  uint64_t seed = 0, stream = 0;
  bool channels = false;  // Dropout2d: whole channels of an image
};
ESPALIER_API Tensor dropout(const Tensor& x, DropoutOptions options);
// The same with (seed, stream) read from memory, s64 [2] on x's device, in the place of the options'.
ESPALIER_API Tensor dropout(const Tensor& x, const Tensor& draw, DropoutOptions options);

// ---- fake_quant.cpp: the nearest number that has a code, or what a low number of bits leaves of a weight
struct FakeQuantOptions {
  Rounding rounding = Rounding::half_even;
  bool clip = true;  // no gradient to what lies beyond the codes; else the gradient passes everywhere
  // Not 0: scale and zero point have gradients too (LSQ, arXiv 1902.08153; LSQ+, 2004.09576), times this number. They
  // are those of scale_slope() and zero_slope() in core/arithmetic.h; the zero point still holds integers.
  float learn = 0;
};
ESPALIER_API Tensor fake_quant(const Tensor& x, const QParams& q, FakeQuantOptions options = {});
// DoReFa-Net's weights (Zhou et al. 2016, arXiv 1606.06160). Straight: the gradient passes the tanh, too, as NNI's
// does.
ESPALIER_API Tensor dorefa(const Tensor& w, int bits, bool straight = false);
// -1 below 0, else 1 (Hubara et al. 2016, arXiv 1602.02830). The gradient passes straight through, clipped where |x|
// > 1.
ESPALIER_API Tensor binarize(const Tensor& x, bool clip = true);

// ---- shape.cpp
ESPALIER_API Tensor reshape(const Tensor& x, const Shape& shape);
ESPALIER_API Tensor flatten(const Tensor& x, int start_dim = 1);
ESPALIER_API Tensor transpose(const Tensor& x, int dim0, int dim1);
ESPALIER_API Tensor cat(const std::vector<Tensor>& parts, int dim = 1);
ESPALIER_API Tensor slice(const Tensor& x, int dim, int64_t begin, int64_t end);

// ---- reduce.cpp
ESPALIER_API Tensor sum(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);  // {}: all
ESPALIER_API Tensor mean(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);
ESPALIER_API Tensor softmax(const Tensor& x, int dim = 1);
ESPALIER_API Tensor log_softmax(const Tensor& x, int dim = 1);

// ---- loss.cpp: means over the batch, as PyTorch's defaults
ESPALIER_API Tensor nll_loss(const Tensor& logp, const Tensor& target, float label_smoothing = 0);  // [N,C], s64 [N]
ESPALIER_API Tensor cross_entropy(const Tensor& logits, const Tensor& target, float label_smoothing = 0);
ESPALIER_API Tensor mse_loss(const Tensor& x, const Tensor& target);
// reduction "batchmean": Σ target·(log target - logp) / N; target holds probabilities.
ESPALIER_API Tensor kl_div(const Tensor& logp, const Tensor& target);

}  // namespace espalier
