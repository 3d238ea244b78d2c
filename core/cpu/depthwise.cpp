// Depthwise convolution over N,H,W,C memory. The weights are turned to [tap][channel] first, so that every step is
// a multiply-add of neighbouring channels. Weight gradients sum image rows in float and the rows in double, over
// a number of chunks that the problem alone determines.
#include <espalier/core/cpu/depthwise.h>
#include <espalier/core/parallel.h>

#include <algorithm>

namespace espalier::cpu {

namespace {
constexpr int64_t lanes = 32;
}

void depthwise(const Gather& g, int64_t channels, const float* x, const float* w, const float* bias, float* y) {
  const int64_t taps = g.taps();
  std::vector<float> turned(size_t(taps * channels));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t t = 0; t < taps; ++t) turned[size_t(t * channels + c)] = w[c * taps + t];
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, taps * channels));
  parallel_for(g.images * g.pixels(), grain, [&](int64_t begin, int64_t end) {
    std::vector<const float*> source(static_cast<size_t>(taps));
    std::vector<const float*> weight(static_cast<size_t>(taps));
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / g.pixels(), pixel = i % g.pixels();
      const int32_t* at_row = g.rows.at.data() + pixel / g.cols.outs * g.rows.taps;
      const int32_t* at_col = g.cols.at.data() + pixel % g.cols.outs * g.cols.taps;
      size_t live = 0;
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t iy = at_row[t / g.cols.taps], ix = at_col[t % g.cols.taps];
        if (iy < 0 || ix < 0) continue;
        source[live] = x + image * g.x_image + (iy * g.x_width + ix) * g.x_pixel;
        weight[live++] = turned.data() + t * channels;
      }
      float* out = y + image * g.y_image + pixel * g.y_pixel;
      for (int64_t c = 0; c < channels; c += lanes) {
        const int64_t n = std::min(lanes, channels - c);
        float sum[lanes] = {};
        if (bias) std::copy_n(bias + c, n, sum);
        if (n == lanes)
          for (size_t t = 0; t < live; ++t)
            for (int64_t l = 0; l < lanes; ++l) sum[l] += source[t][c + l] * weight[t][c + l];
        else
          for (size_t t = 0; t < live; ++t)
            for (int64_t l = 0; l < n; ++l) sum[l] += source[t][c + l] * weight[t][c + l];
        std::copy_n(sum, n, out + c);
      }
    }
  });
}

void depthwise_weight_gradient(const Conv& g, const float* x, const float* dy, float* dw) {
  const Axis rows = forward_axis(g.h, g.out_h(), g.kh, g.stride_h, g.pad_h, g.dilation_h);
  const Axis cols = forward_axis(g.w, g.out_w(), g.kw, g.stride_w, g.pad_w, g.dilation_w);
  const int64_t taps = g.kh * g.kw, lines = g.n * rows.outs, chunks = std::clamp<int64_t>(lines, 1, 64);
  std::vector<double> partial(size_t(chunks * taps * g.c), 0.0);
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk)
      for (int64_t line = lines * chunk / chunks; line < lines * (chunk + 1) / chunks; ++line)
        for (int64_t tap = 0; tap < taps; ++tap) {
          const int64_t image = line / rows.outs, oy = line % rows.outs;
          const int64_t iy = rows.at[size_t(oy * g.kh + tap / g.kw)];
          if (iy < 0) continue;
          double* total = partial.data() + (chunk * taps + tap) * g.c;
          for (int64_t c = 0; c < g.c; c += lanes) {
            const int64_t n = std::min(lanes, g.c - c);
            float sum[lanes] = {};
            for (int64_t ox = 0; ox < cols.outs; ++ox) {
              const int64_t ix = cols.at[size_t(ox * g.kw + tap % g.kw)];
              if (ix < 0) continue;
              const float* a = x + ((image * g.h + iy) * g.w + ix) * g.c + c;
              const float* d = dy + (line * cols.outs + ox) * g.c + c;
              if (n == lanes)
                for (int64_t l = 0; l < lanes; ++l) sum[l] += a[l] * d[l];
              else
                for (int64_t l = 0; l < n; ++l) sum[l] += a[l] * d[l];
            }
            for (int64_t l = 0; l < n; ++l) total[c + l] += double(sum[l]);
          }
        }
  });
  for (int64_t c = 0; c < g.c; ++c)
    for (int64_t t = 0; t < taps; ++t) {
      double sum = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial[size_t((chunk * taps + t) * g.c + c)];
      dw[c * taps + t] = float(sum);
    }
}

}  // namespace espalier::cpu
