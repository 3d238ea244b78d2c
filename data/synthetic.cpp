// The synthetic set: textures instead of photographs. Everything is drawn from counter-based random numbers with
// additions, multiplications and square roots only, so that every machine draws the same bytes.
// All textures are their own mirror images, up to their random phase, so that flips keep the class.
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/data/images.h>

#include <algorithm>
#include <cmath>

namespace espalier {

namespace {

// A triangle wave of period 1 between -1 and 1, steepened towards a square.
float wave(float t) {
  t -= std::floor(t);
  return std::clamp(8 * std::abs(t - 0.5f) - 2, -1.0f, 1.0f);
}

struct Texture {
  int kind;      // stripes across, upright, oblique; checks; rings
  float period;  // pixels
  float px, py;  // phase, in periods
  float slope;   // oblique stripes: +1 or -1
  float operator()(float x, float y) const {
    switch (kind) {
      case 0:
        return wave(y / period + py);
      case 1:
        return wave(x / period + px);
      case 2:
        return wave((x + slope * y) * 0.70710678f / period + px);
      case 3:
        return wave(x / period + px) * wave(y / period + py);
      default:
        return wave(std::sqrt(x * x + y * y) / period + px);
    }
  }
};

void draw(uint8_t* image, int64_t channels, int64_t height, int64_t width, int label, uint64_t seed, uint64_t stream) {
  uint64_t next = 0;
  auto uniform = [&](float low, float high) { return low + (high - low) * random_uniform(seed, stream, next++); };
  const float size = float(std::min(height, width));
  const float cx = float(width) * uniform(.3f, .7f), cy = float(height) * uniform(.3f, .7f);
  const float radius = size * uniform(.34f, .6f);
  Texture texture{label / 2, label % 2 ? uniform(3.3f, 4.1f) : uniform(6.5f, 8.5f), uniform(0, 1), uniform(0, 1),
                  uniform(0, 1) < .5f ? 1.0f : -1.0f};
  float middle[3], swing[3], ground[3];
  const float sign = uniform(0, 1) < .5f ? 1.0f : -1.0f;
  for (int c = 0; c < 3; ++c) {
    middle[c] = uniform(90, 165);
    swing[c] = sign * uniform(25, 80);
    ground[c] = uniform(40, 215);
  }
  const float noise = uniform(20, 55);
  for (int64_t y = 0; y < height; ++y)
    for (int64_t x = 0; x < width; ++x) {
      const float dx = float(x) - cx, dy = float(y) - cy;
      const bool inside = dx * dx + dy * dy < radius * radius;
      const float t = inside ? texture(dx, dy) : 0;
      for (int64_t c = 0; c < channels; ++c) {
        const float value = (inside ? middle[c] + swing[c] * t : ground[c]) + uniform(-noise, noise);
        *image++ = uint8_t(std::clamp(value, 0.0f, 255.0f));
      }
    }
}

}  // namespace

ImageSet synthetic_images(Split split, SyntheticOptions options) {
  const Shape& s = options.image;
  if (s.rank() != 3 || (s[0] != 1 && s[0] != 3) || s[1] < 8 || s[2] < 8)
    fail(ErrorKind::usage, "[synthetic] image shape ", s, ", expected [1 or 3, at least 8, at least 8]");
  if (options.count < 1) fail(ErrorKind::usage, "[synthetic] ", options.count, " images, expected at least 1");
  if (const size_t most = machine_memory() / size_t(s.numel()); size_t(options.count) > most)
    fail(ErrorKind::usage, "[synthetic] ", options.count, " images of ", s, ", expected at most ", most,
         ": all of this machine's memory");
  ImageSet set{"synthetic",
               Tensor::empty({options.count, s[0], s[1], s[2]}, DType::u8),
               Tensor::empty({options.count}, DType::s64),
               {}};
  set.normalize.mean.assign(size_t(s[0]), .5f);
  set.normalize.std.assign(size_t(s[0]), .25f);
  for (const char* kind : {"stripes across", "upright stripes", "oblique stripes", "checks", "rings"})
    for (const char* scale : {"coarse ", "fine "}) set.class_names.push_back(std::string(scale) + kind);
  uint8_t* images = set.images.mutable_data<uint8_t>();
  int64_t* labels = set.labels.mutable_data<int64_t>();
  const char* purpose = split == Split::train ? "synthetic train" : "synthetic test";
  constexpr int64_t at_once = 1024;  // a fraction of a second
  for (int64_t first = 0; first < options.count; first += at_once) {
    if (options.meanwhile) options.meanwhile();
    parallel_for(std::min(at_once, options.count - first), 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = first + begin; i < first + end; ++i) {
        labels[i] = i % 10;
        draw(images + i * s.numel(), s[0], s[1], s[2], int(i % 10), options.seed, stream_of(purpose, uint64_t(i)));
      }
    });
  }
  return set;
}

}  // namespace espalier
