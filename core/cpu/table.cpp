// The CPU column: which kernels it has, and its memory.
#include <espalier/core/cpu/kernels.h>
#include <malloc.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>

namespace espalier {

namespace {

// Large blocks lie on huge pages where the system gives them: weights that one image streams through need a fiftieth of
// the address translations.
void* allocate(size_t bytes, int) {
  constexpr size_t huge_page = size_t(2) << 20;
  if (bytes < huge_page) return std::aligned_alloc(64, bytes);
  void* data = nullptr;  // (aligned_alloc would want a multiple of so much)
  if (posix_memalign(&data, huge_page, bytes) != 0) return nullptr;
  madvise(data, bytes, MADV_HUGEPAGE);  // a hint: it may be refused
  return data;
}

}  // namespace

const Column& cpu_column() {
  static const Column column{.memory = {.allocate = allocate,
                                        .release = [](void* data, int) { std::free(data); },
                                        .copy = [](void* to, const void* from, size_t n) { std::memcpy(to, from, n); },
                                        .synchronize = [](int) {},
                                        .trim = [] { malloc_trim(0); }},
                             .kernels = {
                                 .fill = cpu::fill,  // elementwise.cpp
                                 .copy_strided = cpu::copy_strided,
                                 .cast = cpu::cast,
                                 .add_scaled = cpu::add_scaled,
                                 .unary = cpu::unary,
                                 .unary_grad = cpu::unary_grad,
                                 .binary = cpu::binary,
                                 .binary_grad = cpu::binary_grad,
                                 .where = cpu::where,
                                 .reduce_most = cpu::reduce_most,  // pick.cpp
                                 .arg_most = cpu::arg_most,
                                 .take = cpu::take,
                                 .take_grad = cpu::take_grad,
                                 .reduce_sum = cpu::reduce_sum,  // reduce.cpp
                                 .softmax = cpu::softmax,        // softmax.cpp
                                 .softmax_grad = cpu::softmax_grad,
                                 .nll_loss = cpu::nll_loss,  // loss.cpp
                                 .nll_loss_grad = cpu::nll_loss_grad,
                                 .dropout = cpu::dropout,  // dropout.cpp
                                 .conv2d = cpu::conv2d,    // conv2d.cpp
                                 .conv2d_fused = cpu::conv2d_fused,
                                 .conv2d_sparse = cpu::conv2d_sparse,  // sparse.cpp
                                 .conv2d_grad_input = cpu::conv2d_grad_input,
                                 .conv2d_grad_weight = cpu::conv2d_grad_weight,
                                 .linear = cpu::linear,  // linear.cpp
                                 .linear_fused = cpu::linear_fused,
                                 .linear_grad_input = cpu::linear_grad_input,
                                 .linear_grad_weight = cpu::linear_grad_weight,
                                 .matmul = cpu::matmul,
                                 .masked_matmul = cpu::masked_matmul,  // masked_matmul.cpp
                                 .max_pool = cpu::max_pool,            // pool.cpp
                                 .max_pool_grad = cpu::max_pool_grad,
                                 .avg_pool = cpu::avg_pool,
                                 .avg_pool_grad = cpu::avg_pool_grad,
                                 .batch_norm_train = cpu::batch_norm_train,  // batch_norm.cpp
                                 .batch_norm_eval = cpu::batch_norm_eval,
                                 .batch_norm_grad = cpu::batch_norm_grad,
                                 .batch_norm_eval_grad = cpu::batch_norm_eval_grad,
                                 .group_norm = cpu::group_norm,  // group_norm.cpp
                                 .group_norm_grad = cpu::group_norm_grad,
                                 .resample = cpu::resample,  // resample.cpp
                                 .resample_grad = cpu::resample_grad,
                                 .fake_quant = cpu::fake_quant,  // quantize.cpp
                                 .fake_quant_grad = cpu::fake_quant_grad,
                                 .fake_quant_scale_grad = cpu::fake_quant_scale_grad,
                                 .dorefa = cpu::dorefa,
                                 .dorefa_grad = cpu::dorefa_grad,
                                 .binarize = cpu::binarize,
                                 .binarize_grad = cpu::binarize_grad,
                                 .min_max = cpu::min_max,
                                 .track_range = cpu::track_range,
                                 .tracked_range = cpu::tracked_range,
                                 .histogram = cpu::histogram,
                                 .range_to_scale = cpu::range_to_scale,
                                 .sgd = cpu::sgd,  // optim.cpp
                                 .adam = cpu::adam,
                                 .rmsprop = cpu::rmsprop,
                                 .add_count = cpu::add_count,  // step.cpp
                                 .next_draw = cpu::next_draw,
                                 .count_not_finite = cpu::count_not_finite,
                                 .tally = cpu::tally,
                                 .quantize = cpu::quantize,  // int8_elementwise.cpp
                                 .dequantize = cpu::dequantize,
                                 .conv2d_int8 = cpu::conv2d_int8,      // int8.cpp
                                 .conv2d_binary = cpu::conv2d_binary,  // binary.cpp
                                 .add_int8 = cpu::add_int8,            // int8_elementwise.cpp
                                 .max_pool_int8 = cpu::max_pool_int8,
                                 .avg_pool_int8 = cpu::avg_pool_int8,
                                 .lookup = cpu::lookup,
                             }};
  return column;
}

}  // namespace espalier
