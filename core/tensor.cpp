// Making, moving, converting and printing tensors. Arithmetic is in ops/, gradients are in tape.cpp.
#include <espalier/core/kernels.h>
#include <espalier/core/tape.h>
#include <espalier/core/tensor.h>

#include <algorithm>
#include <cstring>
#include <sstream>

namespace espalier {

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  size_t bytes = 0;
  if (__builtin_mul_overflow(size_t(shape.numel()), size_of(dtype), &bytes))
    fail(ErrorKind::other, "[tensor] ", dtype, shape, " has more bytes than can be counted");
  t.storage_ = std::make_shared<Storage>(bytes, device);
  return t;
}

Tensor Tensor::full(const Shape& shape, float value, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  run::fill(device, t.out(), value);
  return t;
}

Tensor Tensor::over(std::shared_ptr<Storage> memory, const Shape& shape, DType dtype) {
  Tensor t;
  t.shape_ = shape;
  t.dtype_ = dtype;
  t.storage_ = std::move(memory);
  if (t.bytes() > t.storage_->bytes())
    fail(ErrorKind::other, "[tensor] ", dtype, shape, " in ", t.storage_->bytes(), " bytes");
  return t;
}

template <class T>
Tensor Tensor::from(std::span<const T> values, const Shape& shape) {
  if (int64_t(values.size()) != shape.numel())
    fail(ErrorKind::other, "[tensor] ", values.size(), " values for shape ", shape);
  Tensor t = empty(shape, dtype_of<T>);
  to_memory_order(values.data(), t.out().data, shape, sizeof(T));
  return t;
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  if (!defined()) return {};
  if (dtype_ != dtype_of<T>) return to(dtype_of<T>).template to_vector<T>();
  const Tensor here = device().kind == Device::cuda ? to(Device{}) : *this;
  std::vector<T> values(static_cast<size_t>(numel()));
  to_logical_order(here.data<T>(), values.data(), shape_, sizeof(T));
  return values;
}

#define X(T)                                                                      \
  template ESPALIER_API Tensor Tensor::from<T>(std::span<const T>, const Shape&); \
  template ESPALIER_API std::vector<T> Tensor::to_vector<T>() const
X(float);
X(bfloat16);
X(int64_t);
X(int32_t);
X(int8_t);
X(uint8_t);
#undef X

In Tensor::in() const {
  if (!storage_) return {};
  return {at(), dtype_, numel(), storage_.get()};
}

Out Tensor::out() {
  if (!storage_) return {};
  storage_->written(offset_, bytes());
  return {at(), dtype_, numel()};
}

uint64_t Tensor::version() const { return storage_ ? storage_->last_write(offset_, bytes()).version : 0; }

void Tensor::expect_defined(const char* what) const {
  if (!storage_) fail(ErrorKind::other, "[", what, "] of an undefined tensor");
}

const void* Tensor::host(DType expected) const {
  expect_defined("values");
  if (dtype_ != expected) fail(ErrorKind::other, "[tensor] holds ", dtype_, ", asked for as ", expected);
  if (device().kind == Device::cuda)
    fail(ErrorKind::other, "[tensor] lives on ", device(), "; copy it to the cpu first");
  if (device().kind != Device::cpu) note(Crossing::read);
  return at();
}

void* Tensor::mutable_host(DType expected) {
  void* values = const_cast<void*>(host(expected));
  storage_->written(offset_, bytes(), true);
  return values;
}

double Tensor::item() const {
  expect_defined("item");
  if (numel() != 1) fail(ErrorKind::other, "[item] expected one element, got shape ", shape_);
  if (dtype_ == DType::s64) return double(to(Device{}).data<int64_t>()[0]);
  return double(to_vector<float>()[0]);
}

Tensor Tensor::to(Device target) const {
  if (!storage_ || device() == target) return *this;
  Tensor t = empty(shape_, dtype_, target);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(DType target) const {
  if (!storage_ || dtype_ == target) return *this;
  Tensor t = empty(shape_, target, device());
  run::cast(device(), in(), t.out());
  return t;
}

Tensor Tensor::clone() const {
  if (!storage_) return {};
  Tensor t = empty(shape_, dtype_, device());
  t.copy_from(*this);
  return t;
}

Tensor Tensor::detach() const {
  Tensor t = *this;
  t.node_ = nullptr;
  return t;
}

void Tensor::copy_from(const Tensor& source) {
  expect_defined("copy");
  source.expect_defined("copy");
  if (shape_ != source.shape_ || dtype_ != source.dtype_)
    fail(ErrorKind::other, "[copy] from ", source.dtype_, source.shape_, " to ", dtype_, shape_);
  const Device d = device(), s = source.device();
  if ((d.kind == Device::cpu) != (s.kind == Device::cpu)) note(d.kind == Device::cpu ? Crossing::read : Crossing::sent);
  const auto& memory = column(d.kind == Device::cuda ? d : s).memory;
  memory.copy(out().data, source.in().data, bytes());
}

Tensor Tensor::view_as(const Shape& shape) const {
  if (shape.numel() != numel()) fail(ErrorKind::other, "[view] of ", shape_, " as ", shape, ": the sizes differ");
  return view_as(shape, 0);
}

Tensor Tensor::view_as(const Shape& shape, int64_t first) const {
  expect_defined("view");
  if (first < 0 || first > numel() || shape.numel() > numel() - first)
    fail(ErrorKind::other, "[view] of ", shape_, " as ", shape, " from element ", first, ": too few elements");
  Tensor t = detach();
  t.shape_ = shape;
  t.offset_ += size_t(first) * size_of(dtype_);
  return t;
}

Tensor Tensor::narrow(int64_t first, int64_t count) const {
  expect_defined("narrow");
  if (rank() == 0 || first < 0 || count < 0 || first > dim(0) || count > dim(0) - first)
    fail(ErrorKind::other, "[narrow] ", count, " from ", first, " of ", shape_);
  Shape shape = shape_;
  shape[0] = count;
  return view_as(shape, dim(0) ? first * (numel() / dim(0)) : 0);
}

namespace {

// Walks a rank-4 tensor in logical order, calling f(logical, memory) with byte offsets.
template <class F>
void walk(const Shape& s, size_t element, F f) {
  const auto step = strides(s);
  size_t logical = 0;
  for (int64_t n = 0; n < s[0]; ++n)
    for (int64_t c = 0; c < s[1]; ++c)
      for (int64_t h = 0; h < s[2]; ++h)
        for (int64_t w = 0; w < s[3]; ++w, logical += element)
          f(logical, size_t(n * step[0] + c * step[1] + h * step[2] + w * step[3]) * element);
}

}  // namespace

void to_memory_order(const void* logical, void* memory, const Shape& s, size_t element) {
  const auto* from = static_cast<const char*>(logical);
  auto* to = static_cast<char*>(memory);
  const size_t bytes = size_t(s.numel()) * element;
  if (bytes == 0) return;
  if (s.rank() != 4)
    std::memcpy(to, from, bytes);
  else
    walk(s, element, [&](size_t l, size_t m) { std::memcpy(to + m, from + l, element); });
}

void to_logical_order(const void* memory, void* logical, const Shape& s, size_t element) {
  const auto* from = static_cast<const char*>(memory);
  auto* to = static_cast<char*>(logical);
  const size_t bytes = size_t(s.numel()) * element;
  if (bytes == 0) return;
  if (s.rank() != 4)
    std::memcpy(to, from, bytes);
  else
    walk(s, element, [&](size_t l, size_t m) { std::memcpy(to + l, from + m, element); });
}

namespace {

// The values of dimension d on, from place `at` of the logical order; rows stand below one another, as columns.
void print_values(std::ostream& out, const Shape& s, const std::vector<std::string>& words, int width, int d,
                  int64_t at, int64_t inner) {
  if (d == s.rank()) {
    const std::string& word = words[size_t(at)];
    if (size_t(width) > word.size()) out << std::string(size_t(width) - word.size(), ' ');
    out << word;
    return;
  }
  constexpr int64_t edge = 3;
  const int64_t n = s[d], step = n ? inner / n : 0;
  const bool last = d == s.rank() - 1;
  std::string between = ",";
  between.append(last ? 0 : d < s.rank() - 2 ? 2 : 1, '\n');
  between.append(last ? 1 : size_t(d) + 1, ' ');
  out << '[';
  for (int64_t i = 0; i < n; ++i) {
    if (i) out << between;
    if (n > 2 * edge + 1 && i == edge) {
      out << "..." << between;
      i = n - edge;
    }
    print_values(out, s, words, width, d + 1, at + i * step, step);
  }
  out << ']';
}

}  // namespace

std::ostream& operator<<(std::ostream& out, const Tensor& t) {
  if (!t.defined()) return out << "(undefined)";
  out << t.dtype() << t.shape() << " on " << t.device() << (t.rank() > 1 ? "\n" : " ");
  std::vector<std::string> words;
  size_t width = 0;
  const auto say = [&](auto v) {
    std::ostringstream text;
    text.precision(4);
    text << v;
    words.push_back(text.str());
    width = std::max(width, words.back().size());
  };
  if (t.dtype() == DType::s64)
    for (int64_t v : t.to_vector<int64_t>()) say(v);
  else
    for (float v : t.to_vector<float>()) say(v);
  print_values(out, t.shape(), words, t.rank() > 1 ? int(width) : 0, 0, 0, t.numel());
  return out;
}

}  // namespace espalier
