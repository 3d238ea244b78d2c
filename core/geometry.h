// The geometry of the heavy operations: plain structs that serve as an op's attributes, a kernel's argument,
// a primitive cache's key and the FLOPs count. All sizes are logical (N,C,H,W); images are stored N,H,W,C.
#pragma once
#include <espalier/core/api.h>
#include <espalier/core/shape.h>

#include <array>
#include <compare>
#include <cstdint>
#include <limits>

namespace espalier {

// How a number x / scale becomes a whole one: to the nearest, ties to even, before or after the zero point is added to
// it (the second is NNI's), or by cutting off what follows the point.
enum class Rounding { half_even, toward_zero, half_even_after_zero_point };

}  // namespace espalier

// The shapes that operations and kernels compute in, as plain structs.
namespace espalier::geometry {

// The size of a sliding window's output along one axis.
constexpr int64_t window_count(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation = 1) {
  return (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
}

// x [n,c,h,w], weight [o,c/groups,kh,kw] (stored o,kh,kw,c/groups), bias [o] -> y [n,o,out_h,out_w]. Along either axis
// a stride (stride_h, stride_w), zeros on both sides (pad_h, pad_w), a dilation of the kernel (dilation_h, dilation_w).
struct Conv {
  int64_t n, c, h, w, o, kh, kw;
  int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0, dilation_h = 1, dilation_w = 1, groups = 1;
  int64_t out_h() const { return window_count(h, kh, stride_h, pad_h, dilation_h); }
  int64_t out_w() const { return window_count(w, kw, stride_w, pad_w, dilation_w); }
  auto operator<=>(const Conv&) const = default;
};

// y [n,out] = x [n,in] · weight [out,in]ᵀ + bias [out]
struct Affine {
  int64_t n, in, out;
  auto operator<=>(const Affine&) const = default;
};

// y [batch,m,n] = op(a) · op(b): a is [batch,m,k] or, with trans_a, [batch,k,m]; b is [batch,k,n] or, with trans_b,
// [batch,n,k].
struct Matmul {
  int64_t batch, m, n, k;
  bool trans_a = false, trans_b = false;
  auto operator<=>(const Matmul&) const = default;
};

// x [n,c,h,w] -> y [n,c,out_h,out_w], windows of kh x kw with a stride (stride_h, stride_w) and padding (pad_h, pad_w),
// which count_include_pad counts in averages. Pooling that is adaptive takes windows from floor(i·h/out_h) to
// ceil((i+1)·h/out_h).
struct Pool {
  int64_t n, c, h, w, out_h, out_w;
  int64_t kh = 1, kw = 1, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  bool count_include_pad = true, adaptive = false;
  auto operator<=>(const Pool&) const = default;
};

// What a product is bounded by, lo and hi, when a residual, if there is one, has been added: an activation. NaN stays
// NaN.
struct After {
  float lo = -std::numeric_limits<float>::infinity(), hi = std::numeric_limits<float>::infinity();
  // Does it bound anything at all?
  bool bounds() const { return lo != After{}.lo || hi != After{}.hi; }
  // v within the bounds.
  ESPALIER_KERNEL float operator()(float v) const {
    const float raised = lo > v ? lo : v;
    return hi < raised ? hi : raised;
  }
  bool operator==(const After&) const = default;
};

// Codes, the integers that stand for real numbers: value = scale · (code - zero), code in [lo, hi] within 0..255. How
// they come about, by which rounding, and what is computed of them is said, to the bit, in core/arithmetic.h.
struct Coding {
  float scale = 1;
  int32_t zero = 0, lo = 0, hi = 255;
  Rounding rounding = Rounding::half_even;
  bool operator==(const Coding&) const = default;
};

// Convolution on codes: x's zero is zx; the output's codes have the zero zy and lie in [lo, hi], which is narrower than
// their range where an activation is part of it. A float output needs none of the last three.
struct Requant {
  int32_t zx = 0, zy = 0, lo = 0, hi = 255;
  int32_t weight_bits = 8;  // 4: weights lie two in a byte, see packed_shape() in core/ops/quantized.h
  bool operator==(const Requant&) const = default;
};

// Sum of two tensors of codes, A and B: clamp(rne(fma(a, A, fma(b, B, k))), lo, hi).
struct AddCodes {
  float a = 1, b = 1, k = 0;
  int32_t lo = 0, hi = 255;
};

// Average of codes x, as codes y: over the whole map in integers, or over windows in float.
struct AverageCodes {
  Coding x, y;
  bool whole = false;
};

// Batch normalisation over `rows` = n·h·w rows of c channels: eps joins the variance, momentum is the new batch's part
// of the running statistics.
struct Norm {
  int64_t rows, c;
  float eps = 1e-5f, momentum = 0.1f;
  bool relu = false;  // y = max(0, normalised); the backward pass reads the sign from y
  auto operator<=>(const Norm&) const = default;
};

// Normalisation of each of n examples over `groups` equal parts of its c channels and all its pixels; eps joins the
// variance.
struct GroupNorm {
  int64_t n, pixels, c, groups;
  float eps = 1e-5f;
};

// x [n,c,h,w] -> y [n,c,out_h,out_w], by the nearest pixel or, linear, the four around (with align_corners, corners
// on corners): see ops/resample.h.
struct Resample {
  int64_t n, c, h, w, out_h, out_w;
  bool linear = false, align_corners = false;
};

// y over dims[0..rank) in memory order, y contiguous; a_stride and b_stride are the operands', strides of 0 repeat one.
struct Broadcast {
  int rank = 0;
  std::array<int64_t, max_rank> dims{}, a_stride{}, b_stride{};
};

// y[kept...] = scale · Σ x[kept..., reduced...]: dims[0..kept) are y's memory order, the next `reduced` are summed;
// strides are x's.
struct Reduce {
  int kept = 0, reduced = 0;
  std::array<int64_t, max_rank> dims{}, strides{};
};

// to[to_offset + Σ i·to_stride] = from[from_offset + Σ i·from_stride] over dims[0..rank); with accumulate it is added.
struct Strided {
  int rank = 0;
  std::array<int64_t, max_rank> dims{}, from_stride{}, to_stride{};
  int64_t from_offset = 0, to_offset = 0;
  bool accumulate = false;
};

// Softmax, or its log, over the middle dimension of [outer,n,inner] in memory order.
struct SoftmaxOver {
  int64_t outer, n, inner;
  bool log = false;
};

// y [outer,k,inner] = x [outer,n,inner] at the places that an index s64 [outer,k,inner] or, shared, [k] names. One
// outside 0..n-1 throws on the CPU; elsewhere it gives NaN.
struct Take {
  int64_t outer, n, k, inner;
  bool shared = false;
};

// loss = Σ w[target]·-(1-smoothing)·logp[target] - smoothing/c·Σ w·logp over Σ w[target], sums over n, w all 1 where it
// is absent; a target outside 0..c-1 throws on the CPU; elsewhere it makes the loss and its image's gradient NaN.
struct Nll {
  int64_t n, c;
  float smoothing = 0;
};

// y = keep ? x/(1-p) : 0, where p is the part that goes, keep drawn from (seed, stream, element): see ops/dropout.h.
// The draw, s64 [2], holds seed and stream: a step that is run again draws anew. With channels > 0 the tensor is
// [rows,channels] per image of `rows` rows and whole channels are dropped (Dropout2d).
struct Drop {
  float p = 0.5f;
  int64_t rows = 0, channels = 0;
};

// x [outer,channels,inner] in memory order; each channel has its scale and zero point (one channel: the whole tensor
// has). How numbers become codes, qmin to qmax, by a rounding, and numbers again is said in core/arithmetic.h; `clip`:
// numbers beyond the codes get no gradient, else all do.
struct Quant {
  int64_t outer = 1, channels = 1, inner = 1;
  float qmin = 0, qmax = 255;
  Rounding rounding = Rounding::half_even;
  bool clip = true;
};

// A range [2,channels], the least and the greatest numbers, that is followed over time. Without a decay it is the
// widest of all that were seen, from the first on, before which the counter, s64 [1], is 0. With one it is their
// exponential moving average decay·old + (1-decay)·seen, which starts from 0 and is divided by 1 - decay^counter where
// it is read.
struct TrackRange {
  int64_t channels = 1;
  float decay = 0;
};

// The scale and zero point of the range of each of so many channels, for codes from qmin to qmax; symmetric: the zero
// point is 0.
struct RangeToScale {
  int64_t channels = 1;
  float qmin = 0, qmax = 255;
  bool symmetric = false;
};

// What a training step is asked afterwards, noted where the step runs: its loss, in losses, f32 [steps]; counts, s64
// [2], of steps and of rows of scores [n,c] that are largest at their label, the first of equals; halted, s64 [1], is 1
// from the first loss on that is not finite. With `outputs` a step whose scores are not finite has NaN for its loss.
struct Tally {
  int64_t n, c;
  bool outputs = false;
};

// An optimiser's step takes its rates and clock from memory (Pace, in view.h) and an optional operand `keep`, one
// number per element: where it is 0, the weight and its state are left alone, to the bit.

// Stochastic gradient descent as PyTorch's: g = grad + weight_decay·w; buf = first ? g : momentum·buf +
// (1-dampening)·g; w -= lr·(nesterov ? g + momentum·buf : momentum ? buf : g).
struct SgdStep {
  float dampening = 0, weight_decay = 0;
  bool nesterov = false, first = false;
};

// Adam as PyTorch's with its beta2, eps and weight_decay (beta1 is Pace's); `decoupled` makes it AdamW. This is the
// parameter's update number clock + 1 - missed.
struct AdamStep {
  float beta2 = 0.999f, eps = 1e-8f, weight_decay = 0;
  bool decoupled = false;
  int64_t missed = 0;
};

// RMSprop as PyTorch's: g = grad + weight_decay·w; v = alpha·v + (1-alpha)·g², of which, centered, the squared mean of
// g is taken; the step is g / (sqrt(v) + eps), through a momentum where there is one.
struct RmsPropStep {
  float alpha = 0.99f, eps = 1e-8f, weight_decay = 0;
};

// y [m,n] = x [m,k] · (w [n,k] ∘ mask)ᵀ; mask is u8: one per element (tile 0) or per tile x tile block of w,
// [ceil(n/tile), ceil(k/tile)]; a masked block is never read.
struct MaskedMatmul {
  int64_t m, n, k;
  int tile = 0;
};

}  // namespace espalier::geometry
