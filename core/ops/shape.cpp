// Operations that move values without changing them. Where memory order and logical order agree, reshaping is free.
#include <espalier/core/ops/common.h>
#include <espalier/core/ops/shape.h>

#include <algorithm>
#include <sstream>

namespace espalier {

namespace {

// How tags follow a reshape: dimensions are matched in runs of equal size. Where a run ends in one dimension (sizes
// of 1 aside), that one takes the tags of the one dimension that has any, repeated (flatten); a split pins.
Dims couple_reshape(Coupling& c, const Dims& in, const Shape& from, const Shape& to, std::string_view why) {
  Dims out(size_t(to.rank()));
  int i = 0, j = 0;
  while (i < from.rank() || j < to.rank()) {
    const int i0 = i, j0 = j;
    int64_t a = i < from.rank() ? from[i++] : 1, b = j < to.rank() ? to[j++] : 1;
    while (a != b) a < b ? a *= from[i++] : b *= to[j++];
    int tagged = -1, count = 0, target = j0, wide = 0;
    for (int d = j0; d < j; ++d)
      if (to[d] != 1) target = d, ++wide;
    for (int d = i0; d < i; ++d)
      if (!in[size_t(d)].empty()) tagged = d, ++count;
    if (count == 0) continue;
    if (count == 1 && j > j0 && wide <= 1) {
      const Tags& tags = in[size_t(tagged)];
      int64_t inner = 1;
      for (int d = tagged + 1; d < i; ++d) inner *= from[d];
      Tags& merged = out[size_t(target)];
      for (int64_t outer = a / (inner * int64_t(tags.size())); outer > 0; --outer)
        for (int tag : tags) merged.insert(merged.end(), size_t(inner), tag);
    } else {
      for (int d = i0; d < i; ++d) c.pin(in[size_t(d)], why);
    }
  }
  return out;
}

// Copies between a tensor and the stretch of a larger one that starts at `begin` of dimension `dim`.
void copy_part(const Tensor& from, Tensor& to, int dim, int64_t begin) {
  std::array<int64_t, max_rank> all{};
  all[size_t(dim)] = begin;
  ops::copy_window(from, to, all);
}

}  // namespace

std::optional<int64_t> SameOrderOp::alias(std::span<const Shape> in) const {
  return ops::reshape_is_free(in[0], infer(in)) ? std::optional<int64_t>(0) : std::nullopt;
}

void SameOrderOp::run(Inputs in, Tensor& out, Saved&) const { ops::run_reshape(in[0], out); }

Tensors SameOrderOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  return {ops::reshaped(dy, saved.shapes[0])};
}

Dims SameOrderOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const {
  return couple_reshape(c, in[0], shapes[0], out, name());
}

Shape ReshapeOp::infer(std::span<const Shape> in) const {
  Shape shape;
  int open = -1;
  for (size_t d = 0; d < target.size(); ++d) {
    if (target[d] == -1) open = int(d);
    shape.push_back(target[d] == -1 ? 1 : target[d] == 0 && int(d) < in[0].rank() ? in[0][int(d)] : target[d]);
  }
  const int64_t n = in[0].numel(), others = shape.numel();
  if (open >= 0 && others > 0 && n % others == 0) shape[open] = n / others;
  if (shape.numel() != n) {
    std::ostringstream text;
    for (int d = 0; d < shape.rank(); ++d) text << (d ? "," : "") << (d == open ? int64_t(-1) : shape[d]);
    fail(ErrorKind::other, "[reshape] of ", in[0], " to [", text.str(), "]: the sizes differ");
  }
  return shape;
}

Shape UnsqueezeOp::infer(std::span<const Shape> in) const {
  Shape shape;
  for (int d = 0; d <= in[0].rank(); ++d) {
    if (d == dim) shape.push_back(1);
    if (d < in[0].rank()) shape.push_back(in[0][d]);
  }
  return shape;
}

Shape SqueezeOp::infer(std::span<const Shape> in) const {
  Shape shape;
  for (int d = 0; d < in[0].rank(); ++d) {
    if (std::find(dims.begin(), dims.end(), d) == dims.end())
      shape.push_back(in[0][d]);
    else if (in[0][d] != 1)
      fail(ErrorKind::other, "[squeeze] dimension ", d, " of ", in[0], " has not the size 1");
  }
  return shape;
}

Shape FlattenOp::infer(std::span<const Shape> in) const {
  Shape shape;
  int64_t rest = 1;
  for (int d = 0; d < in[0].rank(); ++d) {
    if (d < start)
      shape.push_back(in[0][d]);
    else
      rest *= in[0][d];
  }
  shape.push_back(rest);
  return shape;
}

Shape PermuteOp::infer(std::span<const Shape> in) const {
  if (in[0].rank() != int(dims.size()))
    fail(ErrorKind::other, "[", name(), "] of ", dims.size(), " dimensions, the input is ", in[0]);
  Shape shape;
  for (int64_t d : dims) shape.push_back(in[0][int(d)]);
  return shape;
}

namespace {

// out's dimension i is x's dims[i].
void permuted(const Tensor& x, const std::vector<int64_t>& dims, Tensor& out) {
  const auto source = strides(x.shape()), target = strides(out.shape());
  geometry::Strided g;
  for (int m = 0; m < out.rank(); ++m) {
    const auto d = size_t(ops::memory_order(out.rank())[size_t(m)]);
    ops::push_dimension(g, out.dim(int(d)), source[size_t(dims[d])], target[d]);
  }
  run::copy_strided(out.device(), g, x, out.out());
}

}  // namespace

void PermuteOp::run(Inputs in, Tensor& out, Saved&) const {
  if (out.numel()) permuted(in[0], dims, out);
}

Tensors PermuteOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::empty(saved.shapes[0], dy.dtype(), dy.device());
  std::vector<int64_t> back(dims.size());
  for (size_t d = 0; d < dims.size(); ++d) back[size_t(dims[d])] = int64_t(d);
  if (dx.numel()) permuted(dy, back, dx);
  return {dx};
}

Dims PermuteOp::couple(Coupling&, std::span<const Dims> in, std::span<const Shape>, const Shape&) const {
  Dims out;
  for (int64_t d : dims) out.push_back(in[0][size_t(d)]);
  return out;
}

namespace {

std::vector<int64_t> counted(int rank) {
  std::vector<int64_t> dims;
  for (int d = 0; d < rank; ++d) dims.push_back(d);
  return dims;
}

}  // namespace

TransposeOp::TransposeOp(int rank, int a, int b) : PermuteOp(counted(rank)), dim0(a), dim1(b) {
  std::swap(dims[size_t(a)], dims[size_t(b)]);
}

Shape CatOp::infer(std::span<const Shape> in) const {
  Shape shape = in[0];
  for (size_t i = 1; i < in.size(); ++i) {
    Shape other = in[i];
    if (other.rank() == shape.rank()) other[dim] = shape[dim];
    if (other != shape)
      fail(ErrorKind::other, "[cat] shapes ", in[0], " and ", in[i], " differ outside dimension ", dim);
    shape[dim] += in[i][dim];
  }
  return shape;
}

DType CatOp::dtype(std::span<const DType> in) const {
  for (DType t : in)
    if (t != in[0]) fail(ErrorKind::other, "[cat] of ", in[0], " and ", t);
  return in[0];
}

void CatOp::run(Inputs in, Tensor& out, Saved&) const {
  int64_t at = 0;
  for (const Tensor& t : in) {
    if (t.numel()) copy_part(t, out, dim, at);
    at += t.dim(dim);
  }
}

Tensors CatOp::backward(const Saved& saved, const Tensor& dy, const Needs& needs) const {
  Tensors grads;
  int64_t at = 0;
  for (size_t i = 0; i < saved.shapes.size(); ++i) {
    grads.push_back(needs[i] ? Tensor::empty(saved.shapes[i], dy.dtype(), dy.device()) : Tensor{});
    if (needs[i] && grads[i].numel()) copy_part(dy, grads[i], dim, at);
    at += saved.shapes[i][dim];
  }
  return grads;
}

Dims CatOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape& out) const {
  Dims dims(size_t(out.rank()));
  bool tagged = false;
  for (const Dims& part : in) tagged = tagged || !part[size_t(dim)].empty();
  for (int d = 0; d < out.rank(); ++d) {
    if (d != dim) {
      dims[size_t(d)] = in[0][size_t(d)];
      for (const Dims& part : in) dims[size_t(d)] = ops::tie(c, dims[size_t(d)], part[size_t(d)], name());
      continue;
    }
    for (size_t i = 0; tagged && i < in.size(); ++i) {
      Tags tags = in[i][size_t(d)];
      if (tags.empty()) c.pin(tags = c.fresh(shapes[i][d]), name());
      dims[size_t(d)].insert(dims[size_t(d)].end(), tags.begin(), tags.end());
    }
  }
  return dims;
}

Shape SliceOp::infer(std::span<const Shape> in) const {
  if (begin < 0 || end < begin || end > in[0][dim])
    fail(ErrorKind::other, "[slice] ", begin, " to ", end, " of dimension ", dim, " of ", in[0]);
  Shape shape = in[0];
  shape[dim] = end - begin;
  return shape;
}

std::optional<int64_t> SliceOp::alias(std::span<const Shape> in) const {
  for (int m = 0; m < in[0].rank(); ++m) {
    const int d = ops::memory_order(in[0].rank())[size_t(m)];
    if (d == dim) return begin * strides(in[0])[size_t(d)];
    if (in[0][d] != 1) return std::nullopt;
  }
  return std::nullopt;
}

void SliceOp::run(Inputs in, Tensor& out, Saved&) const {
  if (out.numel()) copy_part(in[0], out, dim, begin);
}

Tensors SliceOp::backward(const Saved& saved, const Tensor& dy, const Needs&) const {
  Tensor dx = Tensor::zeros(saved.shapes[0], dy.dtype(), dy.device());
  if (dy.numel()) copy_part(dy, dx, dim, begin);
  return {dx};
}

Dims SliceOp::couple(Coupling& c, std::span<const Dims> in, std::span<const Shape> shapes, const Shape&) const {
  Dims dims = in[0];
  Tags& tags = dims[size_t(dim)];
  if (tags.empty()) return dims;
  const int64_t n = end - begin;
  if (n > 0 && shapes[0][dim] % n == 0 && begin % n == 0)
    c.balance(tags, shapes[0][dim] / n);
  else
    c.pin(tags, name());
  tags = Tags(tags.begin() + begin, tags.begin() + end);
  return dims;
}

bool CatOp::zero(std::span<const Slice> in) const {
  return constant(in) && std::find(in.begin(), in.end(), Slice::constant) == in.end();
}

bool CatOp::constant(std::span<const Slice> in) const {
  bool any = false;
  for (Slice s : in) {
    if (s == Slice::live) return false;
    any = any || s != Slice::elsewhere;
  }
  return any;
}

namespace {

Tensor reshape_to(const Tensor& x, std::vector<int64_t> target) {
  if (!target.empty() && x.rank() > 0 && target[0] == x.dim(0)) target[0] = 0;  // follows the batch
  return apply(ReshapeOp(std::move(target)), {x});
}

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) { return reshape_to(x, {shape.begin(), shape.end()}); }

Tensor reshape(const Tensor& x, std::initializer_list<int64_t> sizes) {
  int open = 0;
  for (int64_t n : sizes) {
    if (n < -1) fail(ErrorKind::usage, "[reshape] to a size of ", n);
    if (n == -1 && ++open > 1) fail(ErrorKind::usage, "[reshape] more than one size is -1");
  }
  return reshape_to(x, sizes);
}

Tensor unsqueeze(const Tensor& x, int dim) {
  return apply(UnsqueezeOp(ops::dimension("unsqueeze", dim, x.rank() + 1)), {x});
}

Tensor squeeze(const Tensor& x) {
  std::vector<int64_t> dims;
  for (int d = 0; d < x.rank(); ++d)
    if (x.dim(d) == 1) dims.push_back(d);
  return apply(SqueezeOp(std::move(dims)), {x});
}

Tensor squeeze(const Tensor& x, int dim) {
  const int d = ops::dimension("squeeze", dim, x.rank());
  return x.dim(d) == 1 ? apply(SqueezeOp({d}), {x}) : x;
}

Tensor permute(const Tensor& x, const std::vector<int>& dims) {
  std::vector<int64_t> order;
  for (int d : dims) order.push_back(ops::dimension("permute", d, x.rank()));
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  if (sorted != counted(x.rank())) fail(ErrorKind::usage, "[permute] expected each of ", x.rank(), " dimensions once");
  return apply(PermuteOp(std::move(order)), {x});
}

Tensor stack(const std::vector<Tensor>& parts, int dim) {
  if (parts.empty()) fail(ErrorKind::usage, "[stack] of no tensors");
  const int d = ops::dimension("stack", dim, parts[0].rank() + 1);
  std::vector<Tensor> raised;
  for (const Tensor& t : parts) {
    if (t.shape() != parts[0].shape())
      fail(ErrorKind::other, "[stack] shapes ", parts[0].shape(), " and ", t.shape(), " differ");
    raised.push_back(unsqueeze(t, d));
  }
  return cat(raised, d);
}

std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& sizes, int dim) {
  const int d = ops::dimension("split", dim, x.rank());
  std::vector<Tensor> parts;
  int64_t at = 0;
  for (int64_t n : sizes) {
    if (n < 0 || n > x.dim(d) - at) fail(ErrorKind::usage, "[split] a part of ", n, " from ", at, " of ", x.dim(d));
    parts.push_back(slice(x, d, at, at + n));
    at += n;
  }
  if (at != x.dim(d)) fail(ErrorKind::usage, "[split] the parts sum to ", at, ", dimension ", d, " has ", x.dim(d));
  return parts;
}

std::vector<Tensor> split(const Tensor& x, int64_t size, int dim) {
  const int d = ops::dimension("split", dim, x.rank());
  if (size < 1) fail(ErrorKind::usage, "[split] into parts of ", size);
  std::vector<int64_t> sizes;
  for (int64_t left = x.dim(d); left > 0; left -= size) sizes.push_back(std::min(size, left));
  return split(x, sizes, d);
}

std::vector<Tensor> chunk(const Tensor& x, int64_t n, int dim) {
  const int d = ops::dimension("chunk", dim, x.rank());
  if (n < 1) fail(ErrorKind::usage, "[chunk] into ", n, " parts");
  return split(x, std::max<int64_t>(1, (x.dim(d) + n - 1) / n), d);
}

Tensor flatten(const Tensor& x, int start_dim) {
  return apply(FlattenOp(x.rank() ? ops::dimension("flatten", start_dim, x.rank()) : 0), {x});
}

Tensor transpose(const Tensor& x, int dim0, int dim1) {
  const int a = ops::dimension("transpose", dim0, x.rank()), b = ops::dimension("transpose", dim1, x.rank());
  return apply(TransposeOp(x.rank(), a, b), {x});
}

Tensor cat(const std::vector<Tensor>& parts, int dim) {
  if (parts.empty()) fail(ErrorKind::usage, "[cat] of no tensors");
  return apply(CatOp(ops::dimension("cat", dim, parts[0].rank())), parts);
}

Tensor slice(const Tensor& x, int dim, int64_t begin, int64_t end) {
  return apply(SliceOp(ops::dimension("slice", dim, x.rank()), begin, end), {x});
}

}  // namespace espalier
