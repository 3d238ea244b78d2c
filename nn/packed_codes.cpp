// Bits are moved one code at a time: files are read and written seldom.
#include <espalier/nn/packed_codes.h>

#include <algorithm>
#include <cstring>
#include <map>

namespace espalier {

namespace {

constexpr int64_t most_elements = int64_t(1) << 31;  // before memory is asked for on a file's word
const std::string suffix = "_bits";

int64_t packed_bytes(int64_t elements, int64_t bits) { return (elements * bits + 7) / 8; }

}  // namespace

Tensor pack_codes(const Tensor& codes, int bits) {
  if (bits < 1 || bits > 7) fail(ErrorKind::usage, "[pack_codes] ", bits, " bits, expected 1 to 7");
  const Tensor here = codes.to(Device{});
  std::vector<uint8_t> packed(size_t(packed_bytes(here.numel(), bits)), 0);
  const auto* from = static_cast<const uint8_t*>(here.in().data);
  const bool sign = bits == 1 && codes.dtype() == DType::s8;
  for (int64_t i = 0; i < here.numel(); ++i) {
    const unsigned code = sign ? unsigned(from[i] >> 7) : from[i] & ((1u << bits) - 1);
    const int64_t bit = i * bits;
    const unsigned wide = code << (bit % 8);
    packed[size_t(bit / 8)] = uint8_t(packed[size_t(bit / 8)] | wide);
    if (wide >> 8) packed[size_t(bit / 8 + 1)] = uint8_t(wide >> 8);
  }
  return Tensor::from(packed, {int64_t(packed.size())});
}

Tensor packing_of(const Tensor& codes, int bits) {
  std::vector<int64_t> words{bits, codes.dtype() == DType::s8};
  for (const int64_t d : codes.shape()) words.push_back(d);
  return Tensor::from(words, {int64_t(words.size())});
}

Tensor unpack_codes(const Tensor& packed, const Tensor& packing) {
  if (packing.dtype() != DType::s64 || packing.rank() != 1 || packing.numel() < 2 || packing.numel() > 10)
    fail(ErrorKind::data, "[bits] ", packing.dtype(), packing.shape(), ", expected s64[2 + rank]");
  const std::vector<int64_t> words = packing.to_vector<int64_t>();
  const int64_t bits = words[0];
  if (bits < 1 || bits > 7) fail(ErrorKind::data, "[bits] ", bits, ", expected 1 to 7");
  if (words[1] != 0 && words[1] != 1) fail(ErrorKind::data, "[bits] signed is ", words[1], ", expected 0 or 1");
  Shape shape;
  int64_t elements = 1;
  for (size_t i = 2; i < words.size(); ++i) {
    if (words[i] < 1 || words[i] > most_elements / elements) fail(ErrorKind::data, "[bits] a size of ", words[i]);
    elements *= words[i];
    shape.push_back(words[i]);
  }
  if (packed.dtype() != DType::u8 || packed.shape() != Shape{packed_bytes(elements, bits)})
    fail(ErrorKind::data, "[bits] ", packed.dtype(), packed.shape(), ", expected u8[", packed_bytes(elements, bits),
         "] for ", bits, " bits of ", shape);
  const std::vector<uint8_t> from = packed.to_vector<uint8_t>();
  std::vector<uint8_t> codes(size_t(elements), 0);
  const bool is_signed = words[1] == 1;
  for (int64_t i = 0; i < elements; ++i) {
    const int64_t bit = i * bits;
    unsigned wide = from[size_t(bit / 8)];
    if (size_t(bit / 8 + 1) < from.size()) wide |= unsigned(from[size_t(bit / 8 + 1)]) << 8;
    const unsigned code = (wide >> (bit % 8)) & ((1u << bits) - 1);
    const int value = !is_signed           ? int(code)
                      : bits == 1          ? 1 - 2 * int(code)
                      : code >> (bits - 1) ? int(code) - (1 << bits)
                                           : int(code);
    codes[size_t(i)] = uint8_t(value);
  }
  Tensor result = Tensor::empty(shape, is_signed ? DType::s8 : DType::u8);
  std::memcpy(result.out().data, codes.data(), codes.size());
  return result;
}

void unpack_codes(pth::StateDict& weights, pth::StateDict& ports) {
  std::map<std::string, Tensor*> named;
  for (auto& [name, t] : weights) named[name] = &t;
  std::erase_if(ports, [&](const auto& entry) {
    if (!entry.first.ends_with(suffix)) return false;
    const auto found = named.find(entry.first.substr(0, entry.first.size() - suffix.size()));
    if (found == named.end()) return false;  // for whoever reads ports to say
    try {
      *found->second = unpack_codes(*found->second, entry.second);
    } catch (const Error& e) { fail(ErrorKind::data, "[ports] ", entry.first, ": ", e.what()); }
    return true;
  });
}

}  // namespace espalier
