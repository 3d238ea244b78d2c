// Convolution and its gradients: depthwise, through oneDNN's door, or as our own dense products, group by group.
#include <espalier/core/cpu/depthwise.h>
#include <espalier/core/cpu/gather.h>
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/cpu/onednn.h>
#include <espalier/core/cpu/pack.h>
#include <espalier/core/cpu/weight_gradient.h>
#include <espalier/core/storage.h>

namespace espalier::cpu {

namespace {

Gather backward_gather(const Conv& g) {
  return {.images = g.n,
          .in = g.o / g.groups,
          .out = g.c / g.groups,
          .rows = backward_axis(g.h, g.out_h(), g.kh, g.stride_h, g.pad_h, g.dilation_h),
          .cols = backward_axis(g.w, g.out_w(), g.kw, g.stride_w, g.pad_w, g.dilation_w),
          .x_width = g.out_w(),
          .x_image = g.out_h() * g.out_w() * g.o,
          .x_pixel = g.o,
          .y_image = g.h * g.w * g.c,
          .y_pixel = g.c};
}

// Group after group: each reads and writes its own channels.
void multiply_groups(const Gather& gather, int64_t groups, bool columns, const float* x, In w, const float* bias,
                     float* y, const Finish& finish = {}) {
  const auto panels = packed_panels(w, groups, gather.taps(), gather.in, gather.out, columns);
  const int64_t size = panel_floats(gather.taps(), gather.in, gather.out);
  for (int64_t i = 0; i < groups; ++i)
    gather_multiply(gather, x + i * gather.in, {static_cast<const float*>(panels->data()) + i * size},
                    bias ? bias + i * gather.out : nullptr, y + i * gather.out, finish);
}

void convolve(const Conv& g, In x, In w, In b, Out y, const Finish& finish) {
  if (is_depthwise(g))
    depthwise(forward_gather(g), g.c, x.f32(), w.f32(), b.f32(), y.f32(), finish);
  else if (!onednn::conv2d(g, x, w, b, y, finish))
    multiply_groups(forward_gather(g), g.groups, false, x.f32(), w, b.f32(), y.f32(), finish);
}

}  // namespace

void conv2d(const Conv& g, In x, In w, In b, Out y) { convolve(g, x, w, b, y, {}); }

void conv2d_fused(const Conv& g, const After& after, In x, In w, In b, In residual, Out y) {
  convolve(g, x, w, b, y, {.after = after, .residual = residual.f32(), .y = y.f32()});
}

void conv2d_grad_input(const Conv& g, In dy, In w, Out dx) {
  if (is_depthwise(g))
    depthwise(backward_gather(g), g.c, dy.f32(), w.f32(), nullptr, dx.f32());
  else if (!onednn::conv2d_grad_input(g, dy, w, dx))
    multiply_groups(backward_gather(g), g.groups, true, dy.f32(), w, nullptr, dx.f32());
}

void conv2d_grad_weight(const Conv& g, In x, In dy, Out dw, Out db) {
  if (is_depthwise(g))
    depthwise_weight_gradient(g, x.f32(), dy.f32(), dw.f32());
  else
    weight_gradient(g, x.f32(), dy.f32(), dw.f32());
  if (db) {
    const Reduce sum{.kept = 1, .reduced = 1, .dims = {g.o, g.n * g.out_h() * g.out_w()}, .strides = {1, g.o}};
    reduce_sum(sum, 1.f, dy, db);
  }
}

}  // namespace espalier::cpu
