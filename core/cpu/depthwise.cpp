// Depthwise convolution over N,H,W,C memory. The weights are turned to [tap][channel] first, so that every step is
// a multiply-add of neighbouring channels. Weight gradients sum image rows in float and the rows in double, over
// a number of chunks that the problem alone determines.
#include <espalier/core/cpu/depthwise.h>
#include <espalier/core/parallel.h>
#include <immintrin.h>

#include <algorithm>

namespace espalier::cpu {

namespace {

#define ESPALIER_UNROLL _Pragma("GCC unroll 4")
constexpr int64_t step = 8;  // channels in a register

// out[0..8·Vectors) = bias + Σ over taps of source[tap]·weight[tap], from channel c on.
template <int Vectors>
void add_taps(const float* const* source, const float* const* weight, int taps, int64_t c, const float* bias,
              float* out) {
  __m256 sum[Vectors];
  ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) sum[v] =
      bias ? _mm256_loadu_ps(bias + c + v * step) : _mm256_setzero_ps();
  for (int t = 0; t < taps; ++t) {
    const float *a = source[t] + c, *b = weight[t] + c;
    ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) sum[v] =
        _mm256_add_ps(sum[v], _mm256_mul_ps(_mm256_loadu_ps(a + v * step), _mm256_loadu_ps(b + v * step)));
  }
  ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) _mm256_storeu_ps(out + c + v * step, sum[v]);
}

// total[0..8·Vectors) += Σ over pixels of x·d, whose pixels lie x_step and channels apart.
template <int Vectors>
void add_line(const float* x, int64_t x_step, const float* d, int64_t d_step, int64_t pixels, double* total) {
  __m256 sum[Vectors];
  ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) sum[v] = _mm256_setzero_ps();
  for (int64_t i = 0; i < pixels; ++i, x += x_step, d += d_step)
    ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) sum[v] =
        _mm256_add_ps(sum[v], _mm256_mul_ps(_mm256_loadu_ps(x + v * step), _mm256_loadu_ps(d + v * step)));
  float lanes[Vectors * step];
  ESPALIER_UNROLL for (int v = 0; v < Vectors; ++v) _mm256_storeu_ps(lanes + v * step, sum[v]);
  for (int64_t l = 0; l < Vectors * step; ++l) total[l] += double(lanes[l]);
}

}  // namespace

void depthwise(const Gather& g, int64_t channels, const float* x, const float* w, const float* bias, float* y,
               const Finish& finish) {
  const int64_t taps = g.taps(), pixels = g.pixels();
  std::vector<float> turned(size_t(taps * channels));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t t = 0; t < taps; ++t) turned[size_t(t * channels + c)] = w[c * taps + t];
  const int64_t grain = std::max<int64_t>(1, 65536 / std::max<int64_t>(1, taps * channels));
  parallel_for(g.images * pixels, grain, [&](int64_t begin, int64_t end) {
    std::vector<const float*> sources(static_cast<size_t>(taps)), weights(static_cast<size_t>(taps));
    const float **source = sources.data(), **weight = weights.data();
    int64_t image = begin / pixels, row = begin % pixels / g.cols.outs, col = begin % pixels % g.cols.outs;
    for (int64_t i = begin; i < end; ++i) {
      const int32_t *at_row = g.rows.at.data() + row * g.rows.taps, *at_col = g.cols.at.data() + col * g.cols.taps;
      int live = 0;
      for (int64_t ky = 0; ky < g.rows.taps; ++ky) {
        if (at_row[ky] < 0) continue;
        const float* line = x + image * g.x_image + at_row[ky] * g.x_width * g.x_pixel;
        for (int64_t kx = 0; kx < g.cols.taps; ++kx) {
          if (at_col[kx] < 0) continue;
          source[live] = line + at_col[kx] * g.x_pixel;
          weight[live++] = turned.data() + (ky * g.cols.taps + kx) * channels;
        }
      }
      float* out = y + image * g.y_image + (row * g.cols.outs + col) * g.y_pixel;
      int64_t c = 0;
      for (; c + 4 * step <= channels; c += 4 * step) add_taps<4>(source, weight, live, c, bias, out);
      for (; c + step <= channels; c += step) add_taps<1>(source, weight, live, c, bias, out);
      for (; c < channels; ++c) {
        float sum = bias ? bias[c] : 0;
        for (int t = 0; t < live; ++t) sum += source[t][c] * weight[t][c];
        out[c] = sum;
      }
      if (!finish.nothing()) finish(out, channels);
      if (++col == g.cols.outs) {
        col = 0;
        if (++row == g.rows.outs) row = 0, ++image;
      }
    }
  });
}

void depthwise_weight_gradient(const Conv& g, const float* x, const float* dy, float* dw) {
  const Axis rows = forward_axis(g.h, g.out_h(), g.kh, g.stride_h, g.pad_h, g.dilation_h);
  const Axis cols = forward_axis(g.w, g.out_w(), g.kw, g.stride_w, g.pad_w, g.dilation_w);
  const int64_t taps = g.kh * g.kw, lines = g.n * rows.outs, chunks = std::clamp<int64_t>(lines, 1, 64);
  // The outputs whose tap kx is inside the image are neighbours.
  std::vector<int64_t> first(size_t(g.kw), 0), last(size_t(g.kw), cols.outs);
  for (int64_t kx = 0; kx < g.kw; ++kx) {
    int64_t &f = first[size_t(kx)], &l = last[size_t(kx)];
    while (f < l && cols.at[size_t(f * g.kw + kx)] < 0) ++f;
    while (f < l && cols.at[size_t((l - 1) * g.kw + kx)] < 0) --l;
  }
  std::vector<double> partial(size_t(chunks * taps * g.c), 0.0);
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk)
      for (int64_t line = lines * chunk / chunks; line < lines * (chunk + 1) / chunks; ++line)
        for (int64_t tap = 0; tap < taps; ++tap) {
          const int64_t iy = rows.at[size_t(line % rows.outs * g.kh + tap / g.kw)], kx = tap % g.kw;
          const int64_t left = first[size_t(kx)], pixels = last[size_t(kx)] - left;
          if (iy < 0 || pixels == 0) continue;
          const float* a = x + ((line / rows.outs * g.h + iy) * g.w + cols.at[size_t(left * g.kw + kx)]) * g.c;
          const float* d = dy + (line * cols.outs + left) * g.c;
          const int64_t a_step = g.stride_w * g.c;
          double* total = partial.data() + (chunk * taps + tap) * g.c;
          int64_t c = 0;
          for (; c + 4 * step <= g.c; c += 4 * step) add_line<4>(a + c, a_step, d + c, g.c, pixels, total + c);
          for (; c + step <= g.c; c += step) add_line<1>(a + c, a_step, d + c, g.c, pixels, total + c);
          for (; c < g.c; ++c) {
            float sum = 0;
            for (int64_t i = 0; i < pixels; ++i) sum += a[i * a_step + c] * d[i * g.c + c];
            total[c] += double(sum);
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

#undef ESPALIER_UNROLL

}  // namespace espalier::cpu
