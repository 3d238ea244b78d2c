// The rows that the kernels of this folder fill, listed once for both columns: emulated.cpp and table.cu include it.
#pragma once
#include <espalier/cuda/kernels/binary.h>
#include <espalier/cuda/kernels/conv.h>
#include <espalier/cuda/kernels/elementwise.h>
#include <espalier/cuda/kernels/fused.h>
#include <espalier/cuda/kernels/gemm.h>
#include <espalier/cuda/kernels/group_norm.h>
#include <espalier/cuda/kernels/int8.h>
#include <espalier/cuda/kernels/linear.h>
#include <espalier/cuda/kernels/norm.h>
#include <espalier/cuda/kernels/optim.h>
#include <espalier/cuda/kernels/pick.h>
#include <espalier/cuda/kernels/pool.h>
#include <espalier/cuda/kernels/quantize.h>
#include <espalier/cuda/kernels/reduce.h>
#include <espalier/cuda/kernels/resample.h>
#include <espalier/cuda/kernels/softmax.h>
#include <espalier/cuda/kernels/step.h>

namespace espalier::ESPALIER_COLUMN {

inline Kernels rows() {
  return {
      .fill = fill,  // elementwise.h
      .copy_strided = copy_strided,
      .cast = cast,
      .add_scaled = add_scaled,
      .unary = unary,
      .unary_grad = unary_grad,
      .binary = binary,
      .binary_grad = binary_grad,
      .where = where,
      .reduce_most = reduce_most,  // pick.h
      .arg_most = arg_most,
      .take = take,
      .take_grad = take_grad,
      .reduce_sum = reduce_sum,  // reduce.h
      .softmax = softmax,        // softmax.h
      .softmax_grad = softmax_grad,
      .nll_loss = nll_loss,
      .nll_loss_grad = nll_loss_grad,
      .dropout = dropout,            // elementwise.h
      .conv2d = conv2d,              // conv.h
      .conv2d_fused = conv2d_fused,  // fused.h
      .conv2d_sparse = conv2d_sparse,
      .conv2d_grad_input = conv2d_grad_input,
      .conv2d_grad_weight = conv2d_grad_weight,
      .linear = linear,              // linear.h
      .linear_fused = linear_fused,  // fused.h
      .linear_grad_input = linear_grad_input,
      .linear_grad_weight = linear_grad_weight,
      .matmul = matmul,
      .masked_matmul = masked_matmul,  // gemm.h
      .max_pool = max_pool,            // pool.h
      .max_pool_grad = max_pool_grad,
      .avg_pool = avg_pool,
      .avg_pool_grad = avg_pool_grad,
      .batch_norm_train = batch_norm_train,  // norm.h
      .batch_norm_eval = batch_norm_eval,
      .batch_norm_grad = batch_norm_grad,
      .batch_norm_eval_grad = batch_norm_eval_grad,
      .group_norm = group_norm,  // group_norm.h
      .group_norm_grad = group_norm_grad,
      .resample = resample,  // resample.h
      .resample_grad = resample_grad,
      .fake_quant = fake_quant,  // quantize.h
      .fake_quant_grad = fake_quant_grad,
      .fake_quant_scale_grad = fake_quant_scale_grad,
      .dorefa = dorefa,
      .dorefa_grad = dorefa_grad,
      .binarize = binarize,
      .binarize_grad = binarize_grad,
      .min_max = min_max,
      .track_range = track_range,
      .tracked_range = tracked_range,
      .histogram = histogram,
      .range_to_scale = range_to_scale,
      .sgd = sgd,  // optim.h
      .adam = adam,
      .rmsprop = rmsprop,
      .add_count = add_count,  // step.h
      .next_draw = next_draw,
      .count_not_finite = count_not_finite,
      .tally = tally,
      .quantize = quantize,  // int8.h
      .dequantize = dequantize,
      .conv2d_int8 = conv2d_int8,
      .conv2d_binary = conv2d_binary,  // binary.h
      .add_int8 = add_int8,            // int8.h
      .max_pool_int8 = max_pool_int8,
      .avg_pool_int8 = avg_pool_int8,
      .lookup = lookup,
  };
}

}  // namespace espalier::ESPALIER_COLUMN
