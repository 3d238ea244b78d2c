// Pictures from files: what PIL makes of them (tests/data/make_images.py), and that damaged and hostile ones are
// refused.
#include <doctest/doctest.h>
#include <espalier/core/io/file.h>
#include <espalier/data/image_file.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "refusal.h"

using namespace espalier;

namespace {

const std::string folder = ESPALIER_SOURCE_DIR "/tests/data/";

nlohmann::json golden() {
  const auto bytes = read_file(folder + "golden_images.json", 1 << 20);
  return nlohmann::json::parse(bytes.begin(), bytes.end());
}

std::string file(const std::string& name) {
  const auto bytes = read_file(folder + "images/" + name, 1 << 20);
  return {bytes.begin(), bytes.end()};
}

using Bytes = std::vector<uint8_t>;
Bytes bytes_of(const Tensor& t) { return {t.data<uint8_t>(), t.data<uint8_t>() + t.numel()}; }

uint8_t formula_pixel(int64_t y, int64_t x, int64_t c) {
  return uint8_t((x * 31 + y * 17 + c * 83 + x * y % 7 * 11) % 256);
}

Tensor formula_picture(int64_t h, int64_t w) {
  Tensor t = Tensor::empty({1, 3, h, w}, DType::u8);
  uint8_t* out = t.mutable_data<uint8_t>();
  for (int64_t y = 0; y < h; ++y)
    for (int64_t x = 0; x < w; ++x)
      for (int64_t c = 0; c < 3; ++c) *out++ = formula_pixel(y, x, c);
  return t;
}

bool readable(const std::string& name) { return name.ends_with(".png") ? has_png() : has_jpeg(); }

std::string refused(const std::string& bytes) {
  return refusal([&] { parse_image(bytes.data(), bytes.size(), "FILE"); });
}

void put_u32(std::string& to, uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) to += char(v >> shift);
}

uint32_t checksum(const std::string& of) {  // PNG's CRC-32
  uint32_t sum = 0xffffffff;
  for (const char c : of) {
    sum ^= uint8_t(c);
    for (int i = 0; i < 8; ++i) sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum;
}

std::string png_chunk(const std::string& type_and_data) {
  std::string chunk;
  put_u32(chunk, uint32_t(type_and_data.size() - 4));
  chunk += type_and_data;
  put_u32(chunk, checksum(type_and_data));
  return chunk;
}

// Only a header, which claims so many pixels.
std::string png_of(uint32_t width, uint32_t height) {
  std::string header = "IHDR";
  put_u32(header, width);
  put_u32(header, height);
  header += std::string("\x08\x02\0\0\0", 5);
  return "\x89PNG\r\n\x1a\n" + png_chunk(header) + png_chunk("IDAT") + png_chunk("IEND");
}

}  // namespace

TEST_CASE("pictures are read as PIL reads them") {
  const auto expected = golden();
  for (const auto& [name, its] : expected["files"].items()) {
    CAPTURE(name);
    if (!readable(name)) continue;
    const Tensor rgb = read_image(folder + "images/" + name), grey = read_image(folder + "images/" + name, 1);
    CHECK(rgb.shape() == Shape{1, 3, its["size"][0], its["size"][1]});
    CHECK(grey.shape() == Shape{1, 1, its["size"][0], its["size"][1]});
    CHECK(bytes_of(rgb) == its["rgb"].get<Bytes>());
    CHECK(bytes_of(grey) == its["grey"].get<Bytes>());
  }
  if (!has_png()) return;
  for (const char* name : {"rgb.png", "alpha.png", "interlaced.png"})
    CHECK(bytes_of(read_image(folder + "images/" + name)) == bytes_of(formula_picture(5, 7)));
  Bytes sixteen;  // v * 36 * 256 + v * 9 % 256, as 8 bits
  for (int64_t v = 0; v < 8; ++v) sixteen.push_back(uint8_t((double(v * 36 * 256 + v * 9 % 256) / 257) + 0.5));
  CHECK(bytes_of(read_image(folder + "images/grey16.png", 1)) == sixteen);
}

TEST_CASE("pictures are scaled and cropped as torchvision does it") {
  const Tensor picture = formula_picture(20, 14);
  const auto expected = golden();
  for (const auto& one : expected["resized"]) {
    CAPTURE(one["size"].dump());
    CHECK(bytes_of(resize_crop(picture, one["size"][0], one["size"][1])) == one["rgb"].get<Bytes>());
  }
  CHECK(bytes_of(resize_crop(picture, 20, 14)) == bytes_of(picture));
  // What is never read costs nothing: a line of 2^20 pixels as a square of 32.
  const Tensor line = Tensor::full({1, 1, 1, 1 << 20}, 7.f).to(DType::u8);
  CHECK(bytes_of(resize_crop(line, 32, 32)) == Bytes(32 * 32, 7));
  CHECK_THROWS_AS(resize_crop(picture, 0, 4), Error);
  CHECK_THROWS_AS(resize_crop(Tensor::zeros({1, 3, 4, 4}), 2, 2), Error);
}

TEST_CASE("damaged and hostile pictures are refused") {
  CHECK(refused("").find("FILE is neither PNG nor JPEG") != std::string::npos);
  CHECK(refused("GIF89a").find("neither") != std::string::npos);
  CHECK(refusal([] { parse_image("", 0, "FILE", 2); }, ErrorKind::usage).find("2 channels") != std::string::npos);
  CHECK(refusal([] { parse_image("", max_image_bytes + 1, "FILE"); }).find("at most 67108864") != std::string::npos);
  for (const std::string name : {"rgb.png", "palette.png", "interlaced.png", "photo.jpg", "progressive.jpg"}) {
    if (!readable(name)) continue;
    CAPTURE(name);
    const std::string whole = file(name);
    const size_t trailer = name.ends_with(".png") ? 12 : 2;  // an end mark, which nobody misses
    for (size_t n = 0; n < whole.size() - trailer; ++n) {
      const std::string what = refused(whole.substr(0, n));
      CHECK_MESSAGE(what.find("FILE") != std::string::npos, "cut to ", n, ": ", what);
    }
    std::string flipped = whole;  // some flips are other pictures, none does harm
    for (size_t at = 0; at < whole.size(); ++at) {
      flipped[at] = char(whole[at] ^ 0x24);
      const std::string what = refused(flipped);
      CHECK((what == "accepted" || what.find("FILE") != std::string::npos));
      flipped[at] = whole[at];
    }
  }
  if (has_png()) {
    CHECK(refused(png_of(7, 5)).find("[png] FILE: ") != std::string::npos);
    CHECK(refused(png_of(60000, 60000)).find("60000 x 60000 pixels, expected 1 to 67108864") != std::string::npos);
    CHECK(refused(png_of(8192, 8192)).find("cannot hold 8192 x 8192") != std::string::npos);
    CHECK(refused(png_of(0xffffffff, 1)).find("[png] FILE: ") != std::string::npos);
  }
  if (has_jpeg()) {
    CHECK(refused(file("cmyk.jpg")).find("CMYK") != std::string::npos);
    std::string wide = file("photo.jpg");
    const size_t frame = wide.find("\xff\xc0");
    REQUIRE(frame != std::string::npos);
    for (size_t i = 5; i < 9; ++i) wide[frame + i] = '\xff';  // 65535 x 65535
    CHECK(refused(wide).find("[jpeg] FILE: ") != std::string::npos);
    std::string scans = file("progressive.jpg");  // the same scan over and over
    const size_t first = scans.find("\xff\xda"), second = scans.find("\xff", first + 2);
    REQUIRE(second != std::string::npos);
    const std::string scan = scans.substr(first, scans.find("\xff\xc4", first) - first);
    std::string many = scans.substr(0, first);
    for (int i = 0; i < 200; ++i) many += scan;
    CHECK(refused(many + scans.substr(first)).find("more than 100 scans") != std::string::npos);
  }
}
