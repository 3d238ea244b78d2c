// Pooling, channels innermost: a window adds or compares whole pixels, so the compiler vectorises over channels.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier::cpu {

namespace {

// The input places of one output place along an axis, and how many of them the mean divides by.
struct Range {
  int64_t begin, end, size;
};

Range window(int64_t out, int64_t outs, int64_t size, int64_t kernel, int64_t stride, int64_t pad, const Pool& g) {
  if (g.adaptive) {
    const int64_t begin = out * size / outs, end = ((out + 1) * size + outs - 1) / outs;
    return {begin, end, end - begin};
  }
  const int64_t from = out * stride - pad, to = std::min(from + kernel, size + pad);
  const int64_t begin = std::max<int64_t>(from, 0), end = std::min(to, size);
  return {begin, end, g.count_include_pad ? to - from : end - begin};
}

Range rows(int64_t oy, const Pool& g) { return window(oy, g.out_h, g.h, g.kh, g.stride_h, g.pad_h, g); }
Range cols(int64_t ox, const Pool& g) { return window(ox, g.out_w, g.w, g.kw, g.stride_w, g.pad_w, g); }

template <class F>
void for_images(const Pool& g, F f) {
  parallel_for(g.n, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, g.h * g.w * g.c)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t n = begin; n < end; ++n) f(n);
               });
}

}  // namespace

void max_pool(const Pool& g, In x, Out y, Out index) {
  for_images(g, [&](int64_t n) {
    const float* image = x.f32() + n * g.h * g.w * g.c;
    for (int64_t p = 0; p < g.out_h * g.out_w; ++p) {
      const Range r = rows(p / g.out_w, g), c = cols(p % g.out_w, g);
      const int64_t at = (n * g.out_h * g.out_w + p) * g.c;
      float* out = y.f32() + at;
      int32_t* place = index ? index.as<int32_t>() + at : nullptr;
      std::fill(out, out + g.c, -std::numeric_limits<float>::infinity());
      if (place) std::fill(place, place + g.c, int32_t(r.begin * g.w + c.begin));
      for (int64_t iy = r.begin; iy < r.end; ++iy)
        for (int64_t ix = c.begin; ix < c.end; ++ix) {
          const float* pixel = image + (iy * g.w + ix) * g.c;
          for (int64_t ch = 0; ch < g.c; ++ch) {
            const bool better = pixel[ch] > out[ch] || pixel[ch] != pixel[ch];  // NaN wins
            out[ch] = better ? pixel[ch] : out[ch];
            if (place) place[ch] = better ? int32_t(iy * g.w + ix) : place[ch];
          }
        }
    }
  });
}

void max_pool_grad(const Pool& g, In dy, In index, Out dx) {
  for_images(g, [&](int64_t n) {
    float* image = dx.f32() + n * g.h * g.w * g.c;
    std::fill(image, image + g.h * g.w * g.c, 0.f);
    const int64_t at = n * g.out_h * g.out_w * g.c;
    for (int64_t p = 0; p < g.out_h * g.out_w; ++p)
      for (int64_t ch = 0; ch < g.c; ++ch) {
        const int64_t i = at + p * g.c + ch;
        image[index.as<int32_t>()[i] * g.c + ch] += dy.f32()[i];
      }
  });
}

void avg_pool(const Pool& g, In x, Out y) {
  for_images(g, [&](int64_t n) {
    const float* image = x.f32() + n * g.h * g.w * g.c;
    for (int64_t p = 0; p < g.out_h * g.out_w; ++p) {
      const Range r = rows(p / g.out_w, g), c = cols(p % g.out_w, g);
      float* out = y.f32() + (n * g.out_h * g.out_w + p) * g.c;
      std::fill(out, out + g.c, 0.f);
      for (int64_t iy = r.begin; iy < r.end; ++iy)
        for (int64_t ix = c.begin; ix < c.end; ++ix) {
          const float* pixel = image + (iy * g.w + ix) * g.c;
          for (int64_t ch = 0; ch < g.c; ++ch) out[ch] += pixel[ch];
        }
      const float scale = 1 / float(r.size * c.size);
      for (int64_t ch = 0; ch < g.c; ++ch) out[ch] *= scale;
    }
  });
}

void avg_pool_grad(const Pool& g, In dy, Out dx) {
  for_images(g, [&](int64_t n) {
    float* image = dx.f32() + n * g.h * g.w * g.c;
    std::fill(image, image + g.h * g.w * g.c, 0.f);
    for (int64_t p = 0; p < g.out_h * g.out_w; ++p) {
      const Range r = rows(p / g.out_w, g), c = cols(p % g.out_w, g);
      const float* d = dy.f32() + (n * g.out_h * g.out_w + p) * g.c;
      const float scale = 1 / float(r.size * c.size);
      for (int64_t iy = r.begin; iy < r.end; ++iy)
        for (int64_t ix = c.begin; ix < c.end; ++ix) {
          float* pixel = image + (iy * g.w + ix) * g.c;
          for (int64_t ch = 0; ch < g.c; ++ch) pixel[ch] += scale * d[ch];
        }
    }
  });
}

}  // namespace espalier::cpu
