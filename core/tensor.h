// Tensor: a handle on numbers - shape, type, a stretch of a storage - and, while gradients or tracing are on, on the
// tape entry that made it. Copies share memory, and so do views: what a tensor is, is (storage, offset, shape). Always
// contiguous; no layout flag and no general strides.
// Logical order of images and convolution weights is N,C,H,W, memory order of every rank-4 tensor is N,H,W,C:
// data() walks memory, to_vector() and from() speak the logical order.
#pragma once
#include <espalier/core/dtype.h>
#include <espalier/core/shape.h>
#include <espalier/core/storage.h>
#include <espalier/core/view.h>

#include <cmath>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

namespace espalier {

struct Node;

class ESPALIER_API Tensor {
 public:
  Tensor() = default;  // undefined: stands for an absent operand
  // New memory of that shape, type and device: empty() leaves it as it is, full() writes one value, zeros() 0, ones()
  // 1. Throws ErrorKind::other when memory is out, ErrorKind::device where the device is not there.
  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = {});
  static Tensor full(const Shape& shape, float value, DType dtype = DType::f32, Device device = {});
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = {}) {
    return full(shape, 0, dtype, device);
  }
  static Tensor ones(const Shape& shape, DType dtype = DType::f32, Device device = {}) {
    return full(shape, 1, dtype, device);
  }
  // Over memory that is there; throws where it is too small.
  static Tensor over(std::shared_ptr<Storage> memory, const Shape& shape, DType dtype = DType::f32);
  // Values in logical order, row-major; throws unless there are shape.numel() of them.
  template <class T>
  static Tensor from(std::span<const T> values, const Shape& shape);
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape) {
    return from(std::span<const T>(values), shape);
  }

  // Does it hold memory? An undefined tensor stands for an absent operand.
  bool defined() const { return storage_ != nullptr; }
  // defined()
  explicit operator bool() const { return defined(); }
  // In logical order; rank 0 where it is undefined.
  const Shape& shape() const { return shape_; }
  // How many dimensions there are.
  int rank() const { return shape_.rank(); }
  // The size of a dimension, counted from the end where i is negative; throws where there is none.
  int64_t dim(int i) const { return shape_[i]; }
  // Elements, and bytes() of them.
  int64_t numel() const { return shape_.numel(); }
  size_t bytes() const { return size_t(numel()) * size_of(dtype_); }
  size_t offset() const { return offset_; }  // of its first byte in its storage
  // Of its elements.
  DType dtype() const { return dtype_; }
  // Where its memory is; the CPU where it has none.
  Device device() const { return storage_ ? storage_->device() : Device{}; }

  // Host memory, in memory order; throws for a CUDA tensor, another T, an undefined tensor. mutable_data counts as a
  // write, and as the possibility of more: until the library itself writes these values again, no packed copy of them
  // is kept. A tape that saved them refuses its backward pass.
  template <class T = float>
  const T* data() const {
    return static_cast<const T*>(host(dtype_of<T>));
  }
  template <class T = float>
  T* mutable_data() {
    return static_cast<T*>(mutable_host(dtype_of<T>));
  }
  In in() const;  // what kernels read; an undefined tensor gives an empty In
  Out out();      // what kernels write; counts as a write
  // in(), so that kernels are called with tensors.
  operator In() const { return in(); }

  template <class T = float>
  std::vector<T> to_vector() const;  // logical order, from any device
  double item() const;               // the value of a one-element tensor

  Tensor to(Device device) const;        // itself where it is there already; no gradient flows
  Tensor to(DType dtype) const;          // converted with rounding to nearest; no gradient flows
  Tensor clone() const;                  // same values, own storage, no tape
  Tensor detach() const;                 // same storage, no tape
  void copy_from(const Tensor& source);  // overwrites the values; same shape and type, any device
  // Views share the bytes, without a tape; memory order is kept. view_as: under a shape of as many elements, or, from
  // element `first` on, of as many as lie there. narrow: `count` indices of dimension 0 from `first`: images of a
  // batch.
  Tensor view_as(const Shape& shape) const;
  Tensor view_as(const Shape& shape, int64_t first) const;
  Tensor narrow(int64_t first, int64_t count) const;

  // The bytes that it lies in, or null.
  const std::shared_ptr<Storage>& storage() const { return storage_; }
  // Do both lie in the same bytes, under the same shape?
  bool same_memory(const Tensor& o) const {
    return storage_ == o.storage_ && offset_ == o.offset_ && shape_ == o.shape_;
  }
  uint64_t version() const;  // grows whenever any of these values may have been written

  // Gradients. A leaf that requires them collects grad() during backward().
  bool requires_grad() const;
  Tensor& set_requires_grad(bool on = true);  // makes this tensor a leaf of the tape
  Tensor grad() const;                        // undefined until backward() reached this leaf
  void set_grad(Tensor grad);                 // of this tensor's shape and type, or undefined; throws otherwise
  // Its tape entry, or null; set_node() is for whoever records one.
  const std::shared_ptr<Node>& node() const { return node_; }
  void set_node(std::shared_ptr<Node> node) { node_ = std::move(node); }

 private:
  const void* host(DType expected) const;
  void* mutable_host(DType expected);
  void expect_defined(const char* what) const;
  void* at() const { return static_cast<char*>(storage_->data()) + offset_; }

  Shape shape_;
  DType dtype_ = DType::f32;
  std::shared_ptr<Storage> storage_;
  size_t offset_ = 0;  // in bytes
  std::shared_ptr<Node> node_;
};

// Copies between logical row-major order and memory order (they differ for rank 4 only), on the host;
// to_logical_order() is the way back. `element` is the size of one in bytes.
ESPALIER_API void to_memory_order(const void* logical, void* memory, const Shape& shape, size_t element);
ESPALIER_API void to_logical_order(const void* memory, void* logical, const Shape& shape, size_t element);

// start, start + step, ... before end: s64 of whole numbers, f32 of others, as PyTorch's. Throws usage unless step
// leads from start towards end.
template <class T>
Tensor arange(T start, T end, T step = T(1)) {
  const auto span = double(end - start), pace = double(step);
  if (!(span * pace >= 0) || pace == 0)
    fail(ErrorKind::usage, "[arange] from ", start, " to ", end, " in steps of ", step);
  std::vector<std::conditional_t<std::is_integral_v<T>, int64_t, float>> values(size_t(std::ceil(span / pace)));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<std::conditional_t<std::is_integral_v<T>, int64_t, float>>(start + T(i) * step);
  return Tensor::from(values, {int64_t(values.size())});
}
template <class T>
Tensor arange(T end) {
  return arange(T(0), end);
}

// Prints shape, type and device, and the values in rows as PyTorch nests them; of long dimensions the first and the
// last.
ESPALIER_API std::ostream& operator<<(std::ostream& out, const Tensor& t);

}  // namespace espalier
