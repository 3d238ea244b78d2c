// Packing and unpacking tensors that are mostly zeros.
#include <espalier/core/io/packed.h>

#include <bit>
#include <map>
#include <set>
#include <string_view>

namespace espalier::pth {

namespace {

constexpr std::string_view bitmap_suffix = ".packed_bitmap", values_suffix = ".packed_values",
                           shape_suffix = ".packed_shape";

std::string with(const std::string& name, std::string_view suffix) { return name + std::string(suffix); }

}  // namespace

StateDict pack_zeros(const StateDict& dict) {
  StateDict packed;
  for (const auto& [name, t] : dict) {
    if (t.dtype() != DType::f32) {
      packed.emplace_back(name, t);
      continue;
    }
    const std::vector<float> all = t.to_vector();
    std::vector<uint8_t> bitmap((all.size() + 7) / 8, 0);
    std::vector<float> values;
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i] == 0) continue;
      bitmap[i / 8] |= uint8_t(1u << i % 8);
      values.push_back(all[i]);
    }
    const size_t bytes = bitmap.size() + values.size() * sizeof(float) + size_t(t.rank()) * sizeof(int64_t);
    if (values.empty() || bytes >= t.bytes()) {
      packed.emplace_back(name, t);
      continue;
    }
    const std::vector<int64_t> shape(t.shape().begin(), t.shape().end());
    packed.emplace_back(with(name, bitmap_suffix), Tensor::from(bitmap, {int64_t(bitmap.size())}));
    packed.emplace_back(with(name, values_suffix), Tensor::from(values, {int64_t(values.size())}));
    packed.emplace_back(with(name, shape_suffix), Tensor::from(shape, {int64_t(shape.size())}));
  }
  return packed;
}

StateDict unpack_zeros(const StateDict& dict, const std::string& name) {
  std::map<std::string_view, const Tensor*> parts;
  for (const auto& [key, t] : dict) parts.emplace(key, &t);
  StateDict unpacked;
  std::set<std::string_view> used;
  for (const auto& [key, bitmap] : dict) {
    if (!key.ends_with(bitmap_suffix)) continue;
    const std::string of = key.substr(0, key.size() - bitmap_suffix.size());
    const auto refuse = [&](const auto&... what) { fail(ErrorKind::data, "[packed] ", name, ": ", of, " ", what...); };
    const auto part = [&](std::string_view suffix, DType dtype) -> const Tensor& {
      const auto found = parts.find(with(of, suffix));
      if (found == parts.end()) refuse("has no ", suffix.substr(1));
      const Tensor& t = *found->second;
      if (t.dtype() != dtype || t.rank() != 1)
        refuse("has ", suffix.substr(1), " ", t.dtype(), t.shape(), ", expected ", dtype, " in one dimension");
      used.insert(found->first);
      return t;
    };
    const std::vector<uint8_t> bits = part(bitmap_suffix, DType::u8).to_vector<uint8_t>();
    const std::vector<float> values = part(values_suffix, DType::f32).to_vector();
    const std::vector<int64_t> sizes = part(shape_suffix, DType::s64).to_vector<int64_t>();
    if (parts.contains(of)) refuse("is there twice");
    if (sizes.empty() || sizes.size() > size_t(max_rank)) refuse("has ", sizes.size(), " dimensions");
    const auto most = int64_t(bits.size()) * 8;
    Shape shape;
    int64_t numel = 1;
    for (const int64_t n : sizes) {
      if (n < 1 || n > most / numel) refuse("has a bitmap of ", bits.size(), " bytes for another shape");
      numel *= n;
      shape.push_back(n);
    }
    if ((numel + 7) / 8 != int64_t(bits.size())) refuse("has a bitmap of ", bits.size(), " bytes for ", shape);
    size_t ones = 0;
    for (const uint8_t b : bits) ones += size_t(std::popcount(b));
    if (numel % 8 != 0 && bits.back() >> numel % 8 != 0) refuse("has bits beyond its elements");
    if (ones != values.size()) refuse("has ", values.size(), " values for ", ones, " places");
    std::vector<float> all(size_t(numel), 0.f);
    size_t next = 0;
    for (size_t i = 0; i < all.size(); ++i)
      if (bits[i / 8] >> i % 8 & 1) all[i] = values[next++];
    unpacked.emplace_back(of, Tensor::from(all, shape));
  }
  if (used.empty()) return dict;
  StateDict whole;
  size_t at = 0;
  for (const auto& entry : dict) {  // each where its bitmap was
    if (entry.first.ends_with(bitmap_suffix)) whole.push_back(std::move(unpacked[at++]));
    if (!used.contains(entry.first)) whole.push_back(entry);
  }
  return whole;
}

}  // namespace espalier::pth
