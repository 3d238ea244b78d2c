// The operations by name, as PyTorch's torch.nn.functional has them. Each checks shapes, computes on the device of
// its operands and records itself; the ops' own knowledge is in the .cpp files of this folder.
// Operands are f32 unless it says otherwise. Shapes and types that do not meet throw ErrorKind::other, naming them,
// options that make no sense ErrorKind::usage, operands on different devices ErrorKind::device.
// Images are [N,C,H,W]; sizes along two axes are Pair{h, w} or one number for both.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/elementwise.h>
#include <espalier/core/qparams.h>
#include <espalier/core/tape.h>

#include <initializer_list>
#include <string>
#include <vector>

namespace espalier {

// A size along both axes of an image: h down, w across.
struct Pair {
  int64_t h, w;
  constexpr Pair(int64_t both) : h(both), w(both) {}
  constexpr Pair(int64_t h_, int64_t w_) : h(h_), w(w_) {}
  bool operator==(const Pair&) const = default;
};

// ---- conv2d.cpp, linear.cpp
// Where a kernel is put: every `stride` pixels, in an image with `padding` zeros on every side, its taps `dilation`
// pixels apart.
struct Window {
  Pair stride = 1, padding = 0, dilation = 1;
};
// Convolution (cross-correlation, as PyTorch's): x [N,C,H,W], weight [O,C/groups,KH,KW], bias [O] or absent ->
// [N,O,OH,OW], OH = (H + 2·padding - dilation·(KH-1) - 1) / stride + 1. Depthwise is groups == C.
ESPALIER_API Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {}, Window window = {},
                           int64_t groups = 1);
// ---- conv_transpose2d.cpp
// How a transposed convolution lies; groups as conv2d()'s.
struct ConvTransposeOptions {
  Window window = {};       // of the convolution that leads back
  Pair output_padding = 0;  // rows and columns more, below the stride
  int64_t groups = 1;
};
// The input gradient of a convolution (Zeiler et al. 2010): x [N,I,H,W], weight [I,O/groups,KH,KW], bias [O] or absent
// -> [N,O,OH,OW], OH = (H-1)·stride - 2·padding + dilation·(KH-1) + output_padding + 1.
ESPALIER_API Tensor conv_transpose2d(const Tensor& x, const Tensor& weight, const Tensor& bias = {},
                                     ConvTransposeOptions options = {});
// x·weightᵀ + bias: x [N,I], weight [O,I], bias [O] or absent -> [N,O].
ESPALIER_API Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias = {});
// a·b: a [..,M,K] (or [..,K,M] with trans_a), b [..,K,N] (or [..,N,K]); rank 2 or 3, equal batch -> [..,M,N].
ESPALIER_API Tensor matmul(const Tensor& a, const Tensor& b, bool trans_a = false, bool trans_b = false);

// ---- batch_norm.cpp
// How batch_norm() computes; eps joins the variance.
struct BatchNormOptions {
  bool training = true;   // batch statistics, and running ones updated; else the running ones are used
  float momentum = 0.1f;  // running = (1-momentum)·running + momentum·batch; variance unbiased, as PyTorch's
  float eps = 1e-5f;
  bool relu = false;  // max(0, .) in the same pass
};
// (x - mean) / sqrt(variance + eps) · weight + bias per channel (Ioffe & Szegedy 2015, arXiv 1502.03167): x [N,C,H,W]
// or [N,C]; weight, bias, running_mean, running_var [C].
ESPALIER_API Tensor batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& running_mean,
                               Tensor& running_var, BatchNormOptions options = {});

// ---- group_norm.cpp
// x [N,C,H,W] or [N,C], C in so many equal groups; weight, bias [C] or absent (Wu & He 2018, arXiv 1803.08494).
ESPALIER_API Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& weight = {}, const Tensor& bias = {},
                               float eps = 1e-5f);
// Over the last dimensions of x, which are `normalized`, as weight and bias are (Ba et al. 2016, arXiv 1607.06450).
ESPALIER_API Tensor layer_norm(const Tensor& x, const Shape& normalized, const Tensor& weight = {},
                               const Tensor& bias = {}, float eps = 1e-5f);

// ---- pad.cpp, interpolate.cpp
// x within `value`: so much before and after its last dimension, then the one before it, ...: {left, right, top,
// bottom}.
ESPALIER_API Tensor pad(const Tensor& x, const std::vector<int64_t>& pads, double value = 0);
// How interpolate() resizes.
struct InterpolateOptions {
  Pair size = 0, scale_factor = 0;  // one of the two; factors are whole numbers
  bool bilinear = false;            // else the nearest pixel
  bool align_corners = false;       // bilinear: corners stay where they are
};
// An image of another size: x [N,C,H,W] -> [N,C,OH,OW].
ESPALIER_API Tensor interpolate(const Tensor& x, InterpolateOptions options);

// ---- pool.cpp
// Windows of kernel.h x kernel.w every `stride` pixels, `padding` on every side, at most half of the kernel.
struct PoolOptions {
  Pair kernel = 2;
  Pair stride = 0;  // 0: the kernel
  Pair padding = 0;
  bool count_include_pad = true;  // avg_pool2d only
};
// The largest of every window, NaN if one is: x [N,C,H,W] -> [N,C,OH,OW], OH = (H + 2·padding - kernel) / stride + 1;
// of codes, u8, too.
ESPALIER_API Tensor max_pool2d(const Tensor& x, PoolOptions options);
// The mean of every window, over the same shapes.
ESPALIER_API Tensor avg_pool2d(const Tensor& x, PoolOptions options);
// The means of output.h x output.w windows that cover the image evenly: x [N,C,H,W] -> [N,C,output.h,output.w].
ESPALIER_API Tensor adaptive_avg_pool2d(const Tensor& x, Pair output);

// ---- elementwise.cpp: relu(x), leaky_relu(x, {.negative_slope = 0.2f}), ...; add(a, b) with broadcasting, ...
// fn::`Functor` of every element: x f32 or bf16, of any shape -> the same type and shape.
#define X(name, Functor, ...) ESPALIER_API Tensor name(const Tensor& x, fn::Functor f = {});
ESPALIER_UNARY(X)
#undef X
// fn::`Functor` of every pair of elements: a and b f32, of shapes that broadcast to one another by NumPy's rules.
#define X(name, Functor, ...) ESPALIER_API Tensor name(const Tensor& a, const Tensor& b);
ESPALIER_BINARY(X)
#undef X
// x where positive, else weight·x (He et al. 2015, arXiv 1502.01852); weight [1], or [C] for x's dimension 1.
ESPALIER_API Tensor prelu(const Tensor& x, const Tensor& weight);
// To another element type, rounded to nearest; between f32 and bf16 gradients flow.
ESPALIER_API Tensor cast(const Tensor& x, DType to);
// add(), sub(), mul(), div() and neg() as operators.
inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator-(const Tensor& x) { return neg(x); }
// 1 where it holds, else 0, in f32 and without a gradient; eq() and ne() have no operator.
inline Tensor operator>(const Tensor& a, const Tensor& b) { return gt(a, b); }
inline Tensor operator>=(const Tensor& a, const Tensor& b) { return ge(a, b); }
inline Tensor operator<(const Tensor& a, const Tensor& b) { return lt(a, b); }
inline Tensor operator<=(const Tensor& a, const Tensor& b) { return le(a, b); }
// Numbers beside tensors: x * 2, 1 - x, x > 0. And a op= b, where b broadcasts to a's shape. It writes into a's memory,
// as all who share it see, unless a gradient or a trace is recorded: then a becomes the result, and others keep what
// they have. On a parameter, which is to receive a gradient, that throws, as in PyTorch, unless NoGrad holds.
#define X(op)                                                      \
  ESPALIER_API Tensor operator op(const Tensor& a, double b);      \
  ESPALIER_API Tensor operator op(double a, const Tensor& b);      \
  ESPALIER_API Tensor& operator op##=(Tensor& a, const Tensor& b); \
  ESPALIER_API Tensor& operator op##=(Tensor& a, double b);
X(+)
X(-)
X(*)
X(/)
#undef X
// Comparisons with a number, eq(), ne(), pow() with one exponent for all and clamp() between two bounds: as the
// functions above.
ESPALIER_API Tensor operator>(const Tensor& a, double b);
ESPALIER_API Tensor operator>=(const Tensor& a, double b);
ESPALIER_API Tensor operator<(const Tensor& a, double b);
ESPALIER_API Tensor operator<=(const Tensor& a, double b);
ESPALIER_API Tensor eq(const Tensor& a, double b);
ESPALIER_API Tensor ne(const Tensor& a, double b);
ESPALIER_API Tensor pow(const Tensor& x, double exponent);
ESPALIER_API Tensor clamp(const Tensor& x, double min, double max);

// ---- pick.cpp
// a where the condition is not 0, else b; the three broadcast. The condition has no gradient.
ESPALIER_API Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
ESPALIER_API Tensor where(const Tensor& condition, const Tensor& a, double b);
ESPALIER_API Tensor where(const Tensor& condition, double a, const Tensor& b);
// y[i][j][k] = x[i][index[i][j][k]][k] for dim 1; index is s64 of x's rank, and nowhere but in `dim` larger than x.
ESPALIER_API Tensor gather(const Tensor& x, int dim, const Tensor& index);
// The slices of x along `dim` that index, s64 [K], names.
ESPALIER_API Tensor index_select(const Tensor& x, int dim, const Tensor& index);

// ---- dropout.cpp
// p: the part that goes, 0 <= p < 1; seed and stream: which draw it is.
struct DropoutOptions {
  float p = 0.5f;
  uint64_t seed = 0, stream = 0;
  bool channels = false;  // Dropout2d: whole channels of an image
};
// Zero with probability p, else x/(1-p) (Srivastava et al. 2014, JMLR 15); the draw is a function of (seed, stream)
// alone.
ESPALIER_API Tensor dropout(const Tensor& x, DropoutOptions options);
// The same with (seed, stream) read from memory, s64 [2] on x's device, in the place of the options'.
ESPALIER_API Tensor dropout(const Tensor& x, const Tensor& draw, DropoutOptions options);

// ---- fake_quant.cpp: the nearest number that has a code, or what a low number of bits leaves of a weight
// How fake_quant() rounds, and where its gradient passes.
struct FakeQuantOptions {
  Rounding rounding = Rounding::half_even;  // one that learns needs this
  bool clip = true;  // no gradient to what lies beyond the codes; else the gradient passes everywhere
  // Not 0: scale and zero point have gradients too (LSQ, arXiv 1902.08153; LSQ+, 2004.09576), times this number. They
  // are those of scale_slope() and zero_slope() in core/arithmetic.h; the zero point still holds integers.
  float learn = 0;
};
// The number that has a code and is nearest to x, of any shape; the gradient passes straight through (Bengio et al.
// 2013, arXiv 1308.3432). q.scale and q.zero_point are [] or, along q.axis, [C].
ESPALIER_API Tensor fake_quant(const Tensor& x, const QParams& q, FakeQuantOptions options = {});
// DoReFa-Net's weights (Zhou et al. 2016, arXiv 1606.06160), of 1 to 31 bits: see dorefa_one() in core/arithmetic.h.
// Straight: the gradient passes the tanh, too, as NNI's does.
ESPALIER_API Tensor dorefa(const Tensor& w, int bits, bool straight = false);
// -1 below 0, else 1 (Hubara et al. 2016, arXiv 1602.02830). The gradient passes straight through, clipped where |x|
// > 1.
ESPALIER_API Tensor binarize(const Tensor& x, bool clip = true);

// ---- shape.cpp
// The same elements in the same order. In a list, one size may be -1: what the others leave.
ESPALIER_API Tensor reshape(const Tensor& x, const Shape& shape);
ESPALIER_API Tensor reshape(const Tensor& x, std::initializer_list<int64_t> sizes);
// One dimension in the place of start_dim and all behind it.
ESPALIER_API Tensor flatten(const Tensor& x, int start_dim = 1);
// Two dimensions change places; a copy.
ESPALIER_API Tensor transpose(const Tensor& x, int dim0, int dim1);
ESPALIER_API Tensor permute(const Tensor& x, const std::vector<int>& dims);  // a copy: y's dimension i is x's dims[i]
ESPALIER_API Tensor unsqueeze(const Tensor& x, int dim);                     // a size of 1 before dim
// Without the dimensions of size 1: all of them, or this one, which stays if it has another size.
ESPALIER_API Tensor squeeze(const Tensor& x);
ESPALIER_API Tensor squeeze(const Tensor& x, int dim);
ESPALIER_API Tensor stack(const std::vector<Tensor>& parts, int dim = 0);  // equal shapes, along a new dimension
// Slices of `size` along a dimension, the last one perhaps smaller; of these sizes, which sum to all; or, by chunk(),
// at most `n` equal ones, the last perhaps smaller.
ESPALIER_API std::vector<Tensor> split(const Tensor& x, int64_t size, int dim = 0);
ESPALIER_API std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int dim = 0);
ESPALIER_API std::vector<Tensor> chunk(const Tensor& x, int64_t n, int dim = 0);
// One behind the other along a dimension, of one type, equal in every other dimension.
ESPALIER_API Tensor cat(const std::vector<Tensor>& parts, int dim = 1);
// Places begin to end, which is not among them, of a dimension; throws outside 0..size.
ESPALIER_API Tensor slice(const Tensor& x, int dim, int64_t begin, int64_t end);

// ---- reduce.cpp
// The sum, or the mean(), over some dimensions ({}: all), which stay with size 1 where keepdim says so.
ESPALIER_API Tensor sum(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);  // {}: all
ESPALIER_API Tensor mean(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);
// The largest, amax() or max(), and the smallest, amin() or min(), over some dimensions ({}: all), NaN where one is;
// equals share the gradient evenly. Throws where there are no elements.
ESPALIER_API Tensor amax(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);
ESPALIER_API Tensor amin(const Tensor& x, const std::vector<int>& dims = {}, bool keepdim = false);
inline Tensor max(const Tensor& x) { return amax(x); }
inline Tensor min(const Tensor& x) { return amin(x); }
// Where that is, argmax() or argmin(), s64: the first of equals, or the first NaN. Without a dimension the place counts
// through all elements.
ESPALIER_API Tensor argmax(const Tensor& x);
ESPALIER_API Tensor argmax(const Tensor& x, int dim, bool keepdim = false);
ESPALIER_API Tensor argmin(const Tensor& x);
ESPALIER_API Tensor argmin(const Tensor& x, int dim, bool keepdim = false);
// exp(x) over its sum along a dimension, and log_softmax() its logarithm, without overflow.
ESPALIER_API Tensor softmax(const Tensor& x, int dim = 1);
ESPALIER_API Tensor log_softmax(const Tensor& x, int dim = 1);

// ---- loss.cpp: means over the batch or over all elements, as PyTorch's defaults
// Negative log-likelihood of the targets, the mean over the batch; cross_entropy() is that of log_softmax(logits). logp
// or logits [N,C], target s64 [N] -> []. label_smoothing, 0 to 1, is the part of every target that all classes share. A
// weight [C] counts each image as its class's number: Σ w·loss / Σ w.
ESPALIER_API Tensor nll_loss(const Tensor& logp, const Tensor& target, float label_smoothing = 0,
                             const Tensor& weight = {});
ESPALIER_API Tensor cross_entropy(const Tensor& logits, const Tensor& target, float label_smoothing = 0,
                                  const Tensor& weight = {});
// The mean of the squared differences, or by l1_loss() of the absolute ones: values and targets of one shape -> [].
ESPALIER_API Tensor mse_loss(const Tensor& x, const Tensor& target);
ESPALIER_API Tensor l1_loss(const Tensor& x, const Tensor& target);
// Squares below a difference of beta (0: none), absolute values above (Girshick 2015, arXiv 1504.08083).
ESPALIER_API Tensor smooth_l1_loss(const Tensor& x, const Tensor& target, float beta = 1);
// Binary cross entropy of probabilities, 0 to 1, or by binary_cross_entropy_with_logits() of logits: the mean over all
// elements of one shape; the target has no gradient.
ESPALIER_API Tensor binary_cross_entropy(const Tensor& x, const Tensor& target);
ESPALIER_API Tensor binary_cross_entropy_with_logits(const Tensor& x, const Tensor& target);
// Kullback-Leibler divergence of [N,...], reduction "batchmean": Σ target·(log target - logp) / N; target holds
// probabilities.
ESPALIER_API Tensor kl_div(const Tensor& logp, const Tensor& target);

}  // namespace espalier
