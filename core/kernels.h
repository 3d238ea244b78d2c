// The kernel table: what a device can be asked to do, one row per kernel, one filled-in struct per device.
// An op calls run::conv2d(device, ...); an empty row answers "[conv2d] has no emulated kernel yet".
// Rows compute in f32 unless they say otherwise, and overwrite all of each Out unless they say otherwise.
#pragma once
#include <espalier/core/device.h>
#include <espalier/core/geometry.h>
#include <espalier/core/ops/elementwise.h>
#include <espalier/core/storage.h>
#include <espalier/core/view.h>

#include <string>
#include <utility>
#include <vector>

namespace espalier {

// The rows: X(name, arguments...).
// clang-format off
#define ESPALIER_KERNELS(X)                                                                          \
  X(fill, Out y, float value)                                              /* any dtype */           \
  X(copy_strided, const geometry::Strided&, In x, Out y)                             /* any dtype, equal; accumulate: f32 */ \
  X(cast, In x, Out y)                                                     /* any dtype to any */    \
  X(add_scaled, float scale, In x, Out y)                                  /* y += scale * x */      \
  X(unary, int kind, const void* functor, In x, Out y)                     /* functor: see ops/elementwise.h */ \
  X(unary_grad, int kind, const void* functor, In x, In dy, Out dx)                                  \
  X(binary, int kind, const geometry::Broadcast&, In a, In b, Out y)                                           \
  X(binary_grad, int kind, bool second, const geometry::Broadcast&, In a, In b, In dy, Out d)        /* of a, or of b */ \
  X(where, In condition, In a, In b, Out y)                                /* a, b may be absent: zeros */ \
  X(reduce_most, const geometry::Reduce&, bool largest, In x, Out y)                           /* NaN where one is */ \
  X(arg_most, const geometry::SoftmaxOver&, bool largest, In x, Out y)               /* s64: the first of equals, or the first NaN */ \
  X(take, const geometry::Take&, In x, In index, Out y)                                                        \
  X(take_grad, const geometry::Take&, In index, In dy, Out dx)                       /* equal places add up in order */ \
  X(reduce_sum, const geometry::Reduce&, float scale, In x, Out y)                                             \
  X(softmax, const geometry::SoftmaxOver&, In x, Out y)                                                            \
  X(softmax_grad, const geometry::SoftmaxOver&, In y, In dy, Out dx)                                               \
  X(nll_loss, const geometry::Nll&, In logp, In target, In weight, Out loss)         /* target s64 [n]; weight [c], may be absent; loss [1] */ \
  X(nll_loss_grad, const geometry::Nll&, In target, In weight, In dloss, Out dlogp)                                       \
  X(dropout, const geometry::Drop&, In draw, In x, Out y)                            /* its own gradient */    \
  X(conv2d, const geometry::Conv&, In x, In w, In b, Out y)                          /* b may be absent */     \
  X(conv2d_fused, const geometry::Conv&, const geometry::After&, In x, In w, In b, In residual, Out y) /* both may be absent */ \
  X(conv2d_sparse, const geometry::Conv&, const geometry::After&, int format, In x, In w, In b, In residual, Out y) /* format: a SparseFormat; linear layers, too */ \
  X(conv2d_grad_input, const geometry::Conv&, In dy, In w, Out dx)                                             \
  X(conv2d_grad_weight, const geometry::Conv&, In x, In dy, Out dw, Out db)          /* db may be absent */    \
  X(linear, const geometry::Affine&, In x, In w, In b, Out y)                        /* b may be absent */     \
  X(linear_fused, const geometry::Affine&, const geometry::After&, In x, In w, In b, In residual, Out y) /* both may be absent */ \
  X(linear_grad_input, const geometry::Affine&, In dy, In w, Out dx)                                           \
  X(linear_grad_weight, const geometry::Affine&, In x, In dy, Out dw, Out db)        /* db may be absent */    \
  X(matmul, const geometry::Matmul&, In a, In b, Out y)                                                        \
  X(masked_matmul, const geometry::MaskedMatmul&, In x, In w, In mask, Out y)                                  \
  X(max_pool, const geometry::Pool&, In x, Out y, Out index)                         /* index s32: y·w place in its image plane; may be absent */ \
  X(max_pool_grad, const geometry::Pool&, In dy, In index, Out dx)                                             \
  X(avg_pool, const geometry::Pool&, In x, Out y)                                                              \
  X(avg_pool_grad, const geometry::Pool&, In dy, Out dx)                                                       \
  X(batch_norm_train, const geometry::Norm&, In x, In gamma, In beta, Out y, Out mean, Out rstd, Out running_mean, Out running_var) /* running: updated */ \
  X(batch_norm_eval, const geometry::Norm&, In x, In gamma, In beta, In mean, In var, Out y)                   \
  X(batch_norm_grad, const geometry::Norm&, In x, In y, In gamma, In mean, In rstd, In dy, Out dx, Out dgamma, Out dbeta) /* y only with relu */ \
  X(batch_norm_eval_grad, const geometry::Norm&, In x, In y, In gamma, In mean, In var, In dy, Out dx, Out dgamma, Out dbeta) \
  X(group_norm, const geometry::GroupNorm&, In x, In gamma, In beta, Out y, Out mean, Out rstd) /* gamma, beta [c]: may be absent; mean, rstd [n·groups] */ \
  X(group_norm_grad, const geometry::GroupNorm&, In x, In gamma, In mean, In rstd, In dy, Out dx, Out dgamma, Out dbeta) /* each gradient may be absent */ \
  X(resample, const geometry::Resample&, In x, Out y)                                                          \
  X(resample_grad, const geometry::Resample&, In dy, Out dx)                                                   \
  X(fake_quant, const geometry::Quant&, In x, In scale, In zero, Out y)          /* scale, zero [channels] */ \
  X(fake_quant_grad, const geometry::Quant&, In x, In scale, In zero, In dy, Out dx)                    /* dx may be dy */ \
  X(fake_quant_scale_grad, const geometry::Quant&, float factor, In x, In scale, In zero, In dy, Out dscale, Out dzero) /* [channels]; dzero may be absent */ \
  X(dorefa, int64_t n, In w, In range, Out y)                                        /* codes 0..n; range: of w, as min_max gives it */ \
  X(dorefa_grad, In w, In range, In dy, Out dw)                                                                \
  X(binarize, In x, Out y)                                                           /* -1 below 0, else 1; NaN of NaN */ \
  X(binarize_grad, In x, In dy, Out dx)                                              /* dy where |x| <= 1, else 0 */ \
  X(min_max, const geometry::Quant&, In x, Out range)                            /* [2,channels]: the least, the greatest; NaN where one is */ \
  X(track_range, const geometry::TrackRange&, In seen, In counter, Out range)        /* range: updated */      \
  X(tracked_range, const geometry::TrackRange&, In range, In counter, Out y)         /* the range as it is read */ \
  X(histogram, In range, In x, Out bounds, Out counts)                               /* both updated: core/bins.h; range: of x, as min_max gives it */ \
  X(range_to_scale, const geometry::RangeToScale&, In range, Out scale, Out zero)                              \
  X(sgd, const geometry::SgdStep&, const Pace&, In grad, In keep, Out param, Out buffer) /* both updated; buffer may be absent: no momentum */ \
  X(adam, const geometry::AdamStep&, const Pace&, In grad, In keep, Out param, Out m, Out v) /* all updated */ \
  X(rmsprop, const geometry::RmsPropStep&, const Pace&, In grad, In keep, Out param, Out square, Out mean, Out buffer) /* all updated; mean only where centered, buffer with a momentum */ \
  X(add_count, int64_t n, Out y)                                           /* s64: y += n */         \
  X(next_draw, uint64_t purpose, Out state, Out draw)                      /* s64 [2]: (seed, draws) -> (seed, stream of that draw), draws += 1 */ \
  X(count_not_finite, int64_t at, In x, Out counts)                        /* s64: counts[at] += how many of x are NaN or infinite */ \
  X(tally, const geometry::Tally&, In loss, In scores, In labels, Out losses, Out counts, Out halted) /* all updated; labels s64 [n] */ \
  X(quantize, const geometry::Coding&, In x, Out y)                                  /* f32 -> u8; NaN becomes lo */ \
  X(dequantize, const geometry::Coding&, In x, Out y)                                /* u8 -> f32 */         \
  X(conv2d_int8, const geometry::Conv&, const geometry::Requant&, In x, In w, In zero, In b, In scale, Out y) /* x u8, w s8 or u8; zero of w, b s32 [o]: may be absent; scale f32 [o]; y u8 or f32 */ \
  X(conv2d_binary, const geometry::Conv&, const geometry::Requant&, In x, In w, In b, In scale, Out y) /* one group; x u8: 0 is -1, 2 is 1; w: packed signs */ \
  X(add_int8, const geometry::AddCodes&, In a, In b, Out y)                          /* u8 */                \
  X(max_pool_int8, const geometry::Pool&, In x, Out y)                               /* u8 */                \
  X(avg_pool_int8, const geometry::Pool&, const geometry::AverageCodes&, In x, Out y) /* u8 */               \
  X(lookup, In table, In x, Out y)                                                   /* u8; table [256] */
// clang-format on

// A device's kernels: a function per row, null where it has none.
struct Kernels {
// The kernel of run::`name`.
#define X(name, ...) void (*name)(__VA_ARGS__) = nullptr;
  ESPALIER_KERNELS(X)
#undef X
};

// A device: its memory and its kernels.
struct Column {
  Memory memory;
  Kernels kernels;
};

// The device's column, or an Error of kind device that says what is missing.
ESPALIER_API const Column& column(Device device);
// The rows that a device's column leaves empty, by name; the device itself need not be there.
ESPALIER_API std::vector<std::string> missing_kernels(Device device);

const Column& cpu_column();       // core/cpu/table.cpp
const Column* emulated_column();  // cuda/emulated.cpp
const Column* cuda_column();      // cuda/table.cu, or core/cuda_plugin.cpp, which opens that; core/no_cuda.cpp: null
int cuda_device_count();          // the same; core/no_cuda.cpp: 0
void use_cuda_device(int index);  // makes it this thread's; throws ErrorKind::device if it is not there
std::string why_no_cuda();        // where cuda_column() is null

// Throws ErrorKind::device: "[NAME] has no DEVICE kernel yet".
[[noreturn]] ESPALIER_API void missing_kernel(const char* name, Device device);

// The rows of the kernel table as functions.
namespace run {
// Runs the device's kernel `name` on the arguments of its row in ESPALIER_KERNELS; throws ErrorKind::device where the
// device or the kernel is missing.
#define X(name, ...)                            \
  template <class... Arguments>                 \
  void name(Device device, Arguments&&... a) {  \
    auto* kernel = column(device).kernels.name; \
    if (!kernel) missing_kernel(#name, device); \
    kernel(std::forward<Arguments>(a)...);      \
  }
ESPALIER_KERNELS(X)
#undef X
}  // namespace run

}  // namespace espalier
