// Batch functions over bytes (take, crop, flip) and floats (normalize, cutout); rows of pixels are channels-last, so
// that a row of an image moves as one block unless it is mirrored.
#include <espalier/core/random.h>
#include <espalier/data/augment.h>

#include <algorithm>
#include <cstring>

namespace espalier {

namespace {

Tensor empty_batch(const Tensor& images, std::span<const int64_t> indices, DType dtype) {
  for (int64_t i : indices)
    if (i < 0 || i >= images.dim(0)) fail(ErrorKind::other, "[take] image ", i, " of a set of ", images.dim(0));
  return Tensor::empty({int64_t(indices.size()), images.dim(1), images.dim(2), images.dim(3)}, dtype);
}

}  // namespace

Augment standard_augment(const ImageSet& set) {
  return set.mirrored ? Augment{.padding = 4, .flip = true} : Augment{.padding = 2};
}

Tensor take(const Tensor& images, std::span<const int64_t> indices) {
  Tensor batch = empty_batch(images, indices, DType::u8);
  const size_t bytes = size_t(images.numel() / images.dim(0));
  uint8_t* out = batch.mutable_data<uint8_t>();
  for (int64_t i : indices) {
    std::memcpy(out, images.data<uint8_t>() + size_t(i) * bytes, bytes);
    out += bytes;
  }
  return batch;
}

Tensor take_crop_flip(const Tensor& images, std::span<const int64_t> indices, const Augment& augment, Draw draw) {
  Tensor batch = empty_batch(images, indices, DType::u8);
  const int64_t c = images.dim(1), h = images.dim(2), w = images.dim(3), pad = augment.padding;
  const uint64_t stream = stream_of("crop and flip", uint64_t(draw.epoch));
  uint8_t* out = batch.mutable_data<uint8_t>();
  std::memset(out, 0, batch.bytes());
  for (int64_t i : indices) {
    const uint8_t* in = images.data<uint8_t>() + i * h * w * c;
    const Random4 r = philox(draw.seed, stream, uint64_t(i));
    const int64_t dy = int64_t(r.v[0] % uint64_t(2 * pad + 1)) - pad;  // where the crop starts in the image
    const int64_t dx = int64_t(r.v[1] % uint64_t(2 * pad + 1)) - pad;
    const bool mirror = augment.flip && (r.v[2] & 1);
    const int64_t first = std::max<int64_t>(0, -dx), last = std::min(w, w - dx);  // columns that see the image
    for (int64_t y = std::max<int64_t>(0, -dy); y < std::min(h, h - dy); ++y) {
      const uint8_t* from = in + ((y + dy) * w + first + dx) * c;
      uint8_t* row = out + y * w * c;
      if (!mirror) {
        std::memcpy(row + first * c, from, size_t((last - first) * c));
      } else {
        for (int64_t x = first; x < last; ++x, from += c) std::memcpy(row + (w - 1 - x) * c, from, size_t(c));
      }
    }
    out += h * w * c;
  }
  return batch;
}

Tensor normalize(const Tensor& images, const Normalize& constants) {
  const int64_t c = images.dim(1);
  if (int64_t(constants.mean.size()) != c || int64_t(constants.std.size()) != c)
    fail(ErrorKind::other, "[normalize] ", constants.mean.size(), " means for ", c, " channels");
  std::vector<float> table(size_t(256 * c));  // a byte has 256 values
  for (int64_t v = 0; v < 256; ++v)
    for (int64_t k = 0; k < c; ++k)
      table[size_t(v * c + k)] = (float(v) / 255.0f - constants.mean[size_t(k)]) / constants.std[size_t(k)];
  Tensor batch = Tensor::empty(images.shape());
  const uint8_t* in = images.data<uint8_t>();
  float* out = batch.mutable_data();
  for (int64_t p = 0; p < images.numel() / c; ++p)
    for (int64_t k = 0; k < c; ++k) *out++ = table[size_t(*in++ * c + k)];
  return batch;
}

void cutout(Tensor& batch, std::span<const int64_t> indices, int length, Draw draw) {
  const int64_t n = batch.dim(0), c = batch.dim(1), h = batch.dim(2), w = batch.dim(3);
  if (int64_t(indices.size()) != n) fail(ErrorKind::other, "[cutout] ", indices.size(), " places for ", n, " images");
  const uint64_t stream = stream_of("cutout", uint64_t(draw.epoch));
  float* data = batch.mutable_data();
  for (int64_t i = 0; i < n; ++i) {
    const Random4 r = philox(draw.seed, stream, uint64_t(indices[size_t(i)]));
    const int64_t y = r.v[0] % uint64_t(h), x = r.v[1] % uint64_t(w), half = length / 2;
    const int64_t y0 = std::clamp<int64_t>(y - half, 0, h), y1 = std::clamp<int64_t>(y + half, 0, h);
    const int64_t x0 = std::clamp<int64_t>(x - half, 0, w), x1 = std::clamp<int64_t>(x + half, 0, w);
    for (int64_t row = y0; row < y1; ++row) std::fill_n(data + ((i * h + row) * w + x0) * c, (x1 - x0) * c, 0.0f);
  }
}

}  // namespace espalier
