// Which door a file belongs to, grey values, and PIL's resampling: two passes of fixed-point sums, rows first.
#include <espalier/core/io/file.h>
#include <espalier/data/image_file.h>

#include <algorithm>
#include <cmath>
#include <string_view>

namespace espalier {

namespace {

constexpr int fraction_bits = 22;  // PIL's, so that a sum of bytes times weights fits into 32 bits

// The weights with which inputs [first, first + size) make one output.
struct Taps {
  int64_t first;
  std::vector<int32_t> weights;
};

// Outputs [begin, begin + count) of `out` that `in` pixels are scaled to: a triangle as wide as two of the larger
// pixels.
std::vector<Taps> taps(int64_t in, int64_t out, int64_t begin, int64_t count) {
  const double scale = double(in) / double(out), width = std::max(scale, 1.0);
  std::vector<Taps> all;
  for (int64_t i = begin; i < begin + count; ++i) {
    const double center = (double(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(0, int64_t(center - width + 0.5)),
                  last = std::min(in, int64_t(center + width + 0.5));
    std::vector<double> weights;
    double sum = 0;
    for (int64_t x = first; x < last; ++x) {
      weights.push_back(std::max(0.0, 1 - std::abs((double(x) - center + 0.5) * (1 / width))));
      sum += weights.back();
    }
    Taps t{first, {}};
    for (const double w : weights) t.weights.push_back(int32_t(0.5 + w / sum * (1 << fraction_bits)));
    all.push_back(std::move(t));
  }
  return all;
}

uint8_t rounded(int32_t sum) { return uint8_t(std::clamp(sum >> fraction_bits, 0, 255)); }

}  // namespace

void check_image_size(const char* reader, const std::string& name, int64_t width, int64_t height) {
  if (width < 1 || height < 1 || width > max_image_pixels / height)
    fail(ErrorKind::data, "[", reader, "] ", name, ": ", width, " x ", height, " pixels, expected 1 to ",
         max_image_pixels);
}

Tensor parse_image(const void* bytes, size_t size, const std::string& name, int64_t channels) {
  if (channels != 1 && channels != 3)
    fail(ErrorKind::usage, "[image] ", name, ": ", channels, " channels, expected 3 (RGB) or 1 (grey)");
  if (size > max_image_bytes)
    fail(ErrorKind::data, "[image] ", name, ": ", size, " bytes, expected at most ", max_image_bytes);
  const std::string_view begin(static_cast<const char*>(bytes), std::min<size_t>(size, 8));
  const bool png = begin == "\x89PNG\r\n\x1a\n";
  if (!png && !begin.starts_with("\xff\xd8\xff")) fail(ErrorKind::data, "[image] ", name, " is neither PNG nor JPEG");
  const Tensor image = png ? parse_png(bytes, size, name) : parse_jpeg(bytes, size, name);
  if (channels == 3) return image;
  Tensor grey = Tensor::empty({1, 1, image.dim(2), image.dim(3)}, DType::u8);
  const uint8_t* in = image.data<uint8_t>();
  uint8_t* out = grey.mutable_data<uint8_t>();
  for (int64_t i = 0; i < grey.numel(); ++i, in += 3)
    out[i] = uint8_t((in[0] * 19595u + in[1] * 38470u + in[2] * 7471u + 0x8000u) >> 16);
  return grey;
}

Tensor read_image(const std::string& path, int64_t channels) {
  const auto bytes = read_file(path, max_image_bytes);
  return parse_image(bytes.data(), bytes.size(), path, channels);
}

Tensor resize_crop(const Tensor& image, int64_t height, int64_t width) {
  if (image.rank() != 4 || image.dim(0) != 1 || image.dtype() != DType::u8 || image.numel() < 1)
    fail(ErrorKind::usage, "[resize_crop] ", image.dtype(), image.shape(), ", expected u8 [1,C,H,W]");
  if (height < 1 || width < 1 || height > 1 << 16 || width > 1 << 16)
    fail(ErrorKind::usage, "[resize_crop] to ", height, " x ", width, ", expected 1 to 65536");
  const int64_t channels = image.dim(1), h = image.dim(2), w = image.dim(3);
  const bool tall = height * w >= width * h;  // the height just fits
  const int64_t scaled_h = tall ? height : h * width / w, scaled_w = tall ? w * height / h : width;
  const auto centre = [](int64_t all, int64_t part) { return int64_t(std::nearbyint(double(all - part) / 2)); };
  const auto columns = taps(w, scaled_w, centre(scaled_w, width), width),
             rows = taps(h, scaled_h, centre(scaled_h, height), height);

  // Only the rows that the second pass reads.
  const int64_t top = rows.front().first, bottom = rows.back().first + int64_t(rows.back().weights.size());
  std::vector<uint8_t> narrow(size_t((bottom - top) * width * channels));
  const uint8_t* in = image.data<uint8_t>();
  for (int64_t y = top; y < bottom; ++y)
    for (int64_t x = 0; x < width; ++x)
      for (int64_t c = 0; c < channels; ++c) {
        const Taps& t = columns[size_t(x)];
        int32_t sum = 1 << (fraction_bits - 1);
        for (size_t k = 0; k < t.weights.size(); ++k)
          sum += t.weights[k] * in[((y * w) + t.first + int64_t(k)) * channels + c];
        narrow[size_t(((y - top) * width + x) * channels + c)] = rounded(sum);
      }
  Tensor result = Tensor::empty({1, channels, height, width}, DType::u8);
  uint8_t* out = result.mutable_data<uint8_t>();
  const int64_t row = width * channels;
  for (const Taps& t : rows)
    for (int64_t i = 0; i < row; ++i) {
      int32_t sum = 1 << (fraction_bits - 1);
      for (size_t k = 0; k < t.weights.size(); ++k)
        sum += t.weights[k] * narrow[size_t((t.first - top + int64_t(k)) * row + i)];
      *out++ = rounded(sum);
    }
  return result;
}

}  // namespace espalier
