// What each operation means, in double over logical N,C,H,W order: the meaning that every column of kernels is compared
// with. Products are Eigen's, the rest are the plainest loops; nothing here is fast, shared with the library, or
// clever.
#pragma once
#include <espalier/core/geometry.h>
#include <espalier/core/ops/ops.h>

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

namespace reference {

using espalier::Pair;
using espalier::Shape;

struct Array {
  Shape shape;
  std::vector<double> v;  // row-major, logical order

  explicit Array(const Shape& s, double fill = 0) : shape(s), v(size_t(s.numel()), fill) {}
  Array(const Shape& s, std::vector<double> values) : shape(s), v(std::move(values)) {}
  int64_t at(std::initializer_list<int64_t> place) const {
    int64_t i = 0;
    int d = 0;
    for (int64_t p : place) i = i * shape[d++] + p;
    return i;
  }
  double& operator()(std::initializer_list<int64_t> place) { return v[size_t(at(place))]; }
  double operator()(std::initializer_list<int64_t> place) const { return v[size_t(at(place))]; }
};
using Arrays = std::vector<Array>;

// The place of row-major index i.
inline std::vector<int64_t> place_of(int64_t i, const Shape& s) {
  std::vector<int64_t> place(size_t(s.rank()));
  for (int d = s.rank() - 1; d >= 0; --d) {
    place[size_t(d)] = i % s[d];
    i /= s[d];
  }
  return place;
}

inline int64_t index_of(const std::vector<int64_t>& place, const Shape& s) {
  int64_t i = 0;
  for (int d = 0; d < s.rank(); ++d) i = i * s[d] + place[size_t(d)];
  return i;
}

inline Array conv2d(const Array& x, const Array& w, const Array* b, Pair stride, Pair pad, Pair dilation) {
  const int64_t n = x.shape[0], h = x.shape[2], wd = x.shape[3], o = w.shape[0], ci = w.shape[1];
  const int64_t groups = x.shape[1] / ci, co = o / groups;
  const int64_t oh = (h + 2 * pad.h - dilation.h * (w.shape[2] - 1) - 1) / stride.h + 1;
  const int64_t ow = (wd + 2 * pad.w - dilation.w * (w.shape[3] - 1) - 1) / stride.w + 1;
  Array y({n, o, oh, ow});
  for (int64_t i = 0; i < n; ++i)
    for (int64_t f = 0; f < o; ++f)
      for (int64_t r = 0; r < oh; ++r)
        for (int64_t q = 0; q < ow; ++q) {
          double sum = b ? b->v[size_t(f)] : 0;
          for (int64_t c = 0; c < ci; ++c)
            for (int64_t kr = 0; kr < w.shape[2]; ++kr)
              for (int64_t kq = 0; kq < w.shape[3]; ++kq) {
                const int64_t ir = r * stride.h - pad.h + kr * dilation.h;
                const int64_t iq = q * stride.w - pad.w + kq * dilation.w;
                if (ir >= 0 && ir < h && iq >= 0 && iq < wd) sum += x({i, f / co * ci + c, ir, iq}) * w({f, c, kr, kq});
              }
          y({i, f, r, q}) = sum;
        }
  return y;
}

// Every input element scatters its products; groups share nothing.
inline Array conv_transpose2d(const Array& x, const Array& w, const Array* b, Pair stride, Pair pad, Pair dilation,
                              Pair more, int64_t groups) {
  const int64_t n = x.shape[0], in = x.shape[1], h = x.shape[2], wd = x.shape[3], each = w.shape[1];
  const int64_t oh = (h - 1) * stride.h - 2 * pad.h + dilation.h * (w.shape[2] - 1) + more.h + 1;
  const int64_t ow = (wd - 1) * stride.w - 2 * pad.w + dilation.w * (w.shape[3] - 1) + more.w + 1;
  Array y({n, each * groups, oh, ow});
  for (int64_t i = 0; i < y.shape.numel(); ++i) y.v[size_t(i)] = b ? b->v[size_t(place_of(i, y.shape)[1])] : 0;
  for (int64_t i = 0; i < x.shape.numel(); ++i) {
    const auto p = place_of(i, x.shape);
    for (int64_t c = 0; c < each; ++c)
      for (int64_t kr = 0; kr < w.shape[2]; ++kr)
        for (int64_t kq = 0; kq < w.shape[3]; ++kq) {
          const int64_t r = p[2] * stride.h - pad.h + kr * dilation.h, q = p[3] * stride.w - pad.w + kq * dilation.w;
          if (r < 0 || r >= oh || q < 0 || q >= ow) continue;
          y({p[0], p[1] / (in / groups) * each + c, r, q}) += x.v[size_t(i)] * w({p[1], c, kr, kq});
        }
  }
  return y;
}

// x [N,C,...] in groups of channels; w and b per channel.
inline Array group_norm(const Array& x, const Array* w, const Array* b, int64_t groups, double eps) {
  const int64_t c = x.shape[1], n = x.shape.numel() / (x.shape[0] * groups);  // a group's elements are neighbours
  Array y = x;
  for (int64_t g = 0; g < x.shape[0] * groups; ++g) {
    double mean = 0, var = 0;
    for (int64_t i = 0; i < n; ++i) mean += x.v[size_t(g * n + i)] / double(n);
    for (int64_t i = 0; i < n; ++i)
      var += (x.v[size_t(g * n + i)] - mean) * (x.v[size_t(g * n + i)] - mean) / double(n);
    for (int64_t i = 0; i < n; ++i) {
      const auto channel = size_t(g % groups * (c / groups) + i / (n / (c / groups)));
      double& v = y.v[size_t(g * n + i)];
      v = (v - mean) / std::sqrt(var + eps) * (w ? w->v[channel] : 1) + (b ? b->v[channel] : 0);
    }
  }
  return y;
}

inline Array pad(const Array& x, const std::vector<int64_t>& pads, double value) {
  Shape shape = x.shape;
  for (size_t i = 0; i < pads.size(); ++i) shape[-1 - int(i / 2)] += pads[i];
  Array y(shape, value);
  for (int64_t i = 0; i < x.shape.numel(); ++i) {
    auto place = place_of(i, x.shape);
    for (size_t d = 0; d < pads.size() / 2; ++d) place[place.size() - 1 - d] += pads[2 * d];
    y.v[size_t(index_of(place, shape))] = x.v[size_t(i)];
  }
  return y;
}

inline Array interpolate(const Array& x, Pair to, bool bilinear, bool corners) {
  Array y({x.shape[0], x.shape[1], to.h, to.w});
  // The weight of input i in output o of an axis.
  const auto weight = [&](int64_t i, int64_t in, int64_t o, int64_t out) {
    if (!bilinear) return i == o * in / out ? 1. : 0.;
    double at = corners ? (out > 1 ? double(o) * double(in - 1) / double(out - 1) : 0)
                        : (double(o) + 0.5) * double(in) / double(out) - 0.5;
    at = std::clamp(at, 0., double(in - 1));
    return std::max(0., 1 - std::abs(at - double(i)));
  };
  for (int64_t i = 0; i < y.shape.numel(); ++i) {
    const auto p = place_of(i, y.shape);
    for (int64_t r = 0; r < x.shape[2]; ++r)
      for (int64_t q = 0; q < x.shape[3]; ++q)
        y.v[size_t(i)] += weight(r, x.shape[2], p[2], to.h) * weight(q, x.shape[3], p[3], to.w) * x({p[0], p[1], r, q});
  }
  return y;
}

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

inline Array matmul(const Array& a, const Array& b, bool ta, bool tb) {
  const int64_t batch = a.shape.rank() == 3 ? a.shape[0] : 1;
  const int64_t m = a.shape[ta ? -1 : -2], k = a.shape[ta ? -2 : -1], n = b.shape[tb ? -2 : -1];
  Array y(a.shape.rank() == 3 ? Shape{batch, m, n} : Shape{m, n});
  for (int64_t q = 0; q < batch; ++q) {
    const Eigen::Map<const Matrix> p(a.v.data() + q * m * k, ta ? k : m, ta ? m : k);
    const Eigen::Map<const Matrix> r(b.v.data() + q * k * n, tb ? n : k, tb ? k : n);
    const Matrix left = ta ? Matrix(p.transpose()) : Matrix(p), right = tb ? Matrix(r.transpose()) : Matrix(r);
    Eigen::Map<Matrix>(y.v.data() + q * m * n, m, n) = left * right;
  }
  return y;
}

inline Array linear(const Array& x, const Array& w, const Array* b) {
  Array y = matmul(x, w, false, true);
  const int64_t n = w.shape[0];
  if (b)
    Eigen::Map<Matrix>(y.v.data(), x.shape[0], n).rowwise() += Eigen::Map<const Eigen::RowVectorXd>(b->v.data(), n);
  return y;
}

// x [N,C,...]; with training the batch's mean and biased variance, else the given ones.
inline Array batch_norm(const Array& x, const Array& gamma, const Array& beta, const Array& mean, const Array& var,
                        bool training, double eps, bool relu) {
  const int64_t n = x.shape[0], c = x.shape[1], plane = x.shape.numel() / std::max<int64_t>(n * c, 1);
  Array y(x.shape);
  for (int64_t ch = 0; ch < c; ++ch) {
    auto place = [&](int64_t i) { return size_t((i / plane * c + ch) * plane + i % plane); };
    const int64_t count = n * plane;
    double m = mean.v[size_t(ch)], s = var.v[size_t(ch)];
    if (training) {
      m = s = 0;
      for (int64_t i = 0; i < count; ++i) m += x.v[place(i)] / double(count);
      for (int64_t i = 0; i < count; ++i) s += (x.v[place(i)] - m) * (x.v[place(i)] - m) / double(count);
    }
    for (int64_t i = 0; i < count; ++i) {
      const double v = (x.v[place(i)] - m) / std::sqrt(s + eps) * gamma.v[size_t(ch)] + beta.v[size_t(ch)];
      y.v[place(i)] = relu ? std::max(v, 0.0) : v;
    }
  }
  return y;
}

// Windows are [begin,end) of rows and columns; `size` is what a mean divides by.
struct Window1 {
  int64_t begin, end, size;
};
inline Window1 window(int64_t out, int64_t kernel, int64_t stride, int64_t pad, int64_t size, bool include) {
  const int64_t from = out * stride - pad, to = from + kernel;
  const int64_t begin = std::max<int64_t>(from, 0), end = std::min(to, size);
  return {begin, end, include ? std::min(to, size + pad) - from : end - begin};
}
inline Window1 adaptive(int64_t out, int64_t outs, int64_t size) {
  const auto begin = int64_t(std::floor(double(out) * double(size) / double(outs)));
  const auto end = int64_t(std::ceil(double(out + 1) * double(size) / double(outs)));
  return {begin, end, end - begin};
}

template <class RowWindow, class ColumnWindow>
Array pool(const Array& x, int64_t oh, int64_t ow, bool max, RowWindow rows, ColumnWindow cols) {
  Array y({x.shape[0], x.shape[1], oh, ow});
  for (int64_t n = 0; n < x.shape[0]; ++n)
    for (int64_t c = 0; c < x.shape[1]; ++c)
      for (int64_t r = 0; r < oh; ++r)
        for (int64_t q = 0; q < ow; ++q) {
          const Window1 a = rows(r), b = cols(q);
          double top = -INFINITY, sum = 0;
          for (int64_t i = a.begin; i < a.end; ++i)
            for (int64_t j = b.begin; j < b.end; ++j) {
              top = std::max(top, x({n, c, i, j}));
              sum += x({n, c, i, j});
            }
          y({n, c, r, q}) = max ? top : sum / double(a.size * b.size);
        }
  return y;
}

inline Array window_pool(const Array& x, bool max, Pair k, Pair s, Pair p, bool include) {
  const int64_t h = x.shape[2], w = x.shape[3];
  return pool(
      x, (h + 2 * p.h - k.h) / s.h + 1, (w + 2 * p.w - k.w) / s.w + 1, max,
      [&](int64_t r) { return window(r, k.h, s.h, p.h, h, include); },
      [&](int64_t q) { return window(q, k.w, s.w, p.w, w, include); });
}

inline Array adaptive_avg_pool2d(const Array& x, Pair out) {
  return pool(
      x, out.h, out.w, false, [&](int64_t r) { return adaptive(r, out.h, x.shape[2]); },
      [&](int64_t q) { return adaptive(q, out.w, x.shape[3]); });
}

inline Array unary(const Array& x, const std::function<double(double)>& f) {
  Array y = x;
  for (double& v : y.v) v = f(v);
  return y;
}

// NumPy's broadcasting: shapes are aligned at their ends.
inline Array binary(const Array& a, const Array& b, const std::function<double(double, double)>& f) {
  const int rank = std::max(a.shape.rank(), b.shape.rank());
  auto size = [&](const Array& t, int d) { return d < rank - t.shape.rank() ? 1 : t.shape[d - rank]; };
  Shape shape;
  for (int d = 0; d < rank; ++d) shape.push_back(std::max(size(a, d), size(b, d)));
  for (int d = 0; d < rank; ++d)
    if (size(a, d) == 0 || size(b, d) == 0) shape[d] = 0;
  Array y(shape);
  auto value = [&](const Array& t, const std::vector<int64_t>& place) {
    int64_t i = 0;
    for (int d = 0; d < t.shape.rank(); ++d) {
      const int64_t p = place[size_t(d + rank - t.shape.rank())];
      i = i * t.shape[d] + (t.shape[d] == 1 ? 0 : p);
    }
    return t.v[size_t(i)];
  };
  for (int64_t i = 0; i < shape.numel(); ++i) {
    const auto place = place_of(i, shape);
    y.v[size_t(i)] = f(value(a, place), value(b, place));
  }
  return y;
}

inline Array sum(const Array& x, std::vector<int> dims, bool keepdim, bool mean) {
  const int rank = x.shape.rank();
  std::vector<bool> gone(size_t(rank), dims.empty());
  for (int d : dims) gone[size_t(d < 0 ? d + rank : d)] = true;
  Shape shape, kept;
  double count = 1;
  for (int d = 0; d < rank; ++d) {
    kept.push_back(gone[size_t(d)] ? 1 : x.shape[d]);
    if (!gone[size_t(d)] || keepdim) shape.push_back(kept[d]);
    if (gone[size_t(d)]) count *= double(x.shape[d]);
  }
  Array y(shape);
  for (int64_t i = 0; i < x.shape.numel(); ++i) {
    auto place = place_of(i, x.shape);
    for (int d = 0; d < rank; ++d)
      if (gone[size_t(d)]) place[size_t(d)] = 0;
    y.v[size_t(index_of(place, kept))] += x.v[size_t(i)] / (mean ? count : 1);
  }
  return y;
}

inline Array most(const Array& x, std::vector<int> dims, bool keepdim, bool largest) {
  Array y = sum(x, dims, keepdim, false);
  const Array kept = sum(x, dims, true, false);
  std::vector<bool> seen(y.v.size());
  for (int64_t i = 0; i < x.shape.numel(); ++i) {
    auto place = place_of(i, x.shape);
    for (int d = 0; d < x.shape.rank(); ++d)
      if (kept.shape[d] == 1) place[size_t(d)] = 0;
    const auto at = size_t(index_of(place, kept.shape));
    const double v = x.v[size_t(i)];
    if (!seen[at] || (largest ? v > y.v[at] : v < y.v[at])) y.v[at] = v;
    seen[at] = true;
  }
  return y;
}

inline Array place_of_most(const Array& x, int dim, bool keepdim, bool largest) {
  const int d = dim < 0 ? dim + x.shape.rank() : dim;
  const Array values = most(x, {d}, true, largest);
  Array y = sum(x, {d}, keepdim, false);
  for (int64_t i = 0; i < x.shape.numel(); ++i) {
    auto place = place_of(i, x.shape);
    const int64_t at = place[size_t(d)];
    place[size_t(d)] = 0;
    const auto out = size_t(index_of(place, values.shape));
    if (x.v[size_t(i)] == values.v[out]) y.v[out] = double(at);
  }
  return y;
}

inline Array softmax(const Array& x, int dim, bool log) {
  const int d = dim < 0 ? dim + x.shape.rank() : dim;
  Array y = x;
  for (int64_t i = 0; i < x.shape.numel(); ++i) {
    auto place = place_of(i, x.shape);
    double sum = 0;
    for (place[size_t(d)] = 0; place[size_t(d)] < x.shape[d]; ++place[size_t(d)])
      sum += std::exp(x.v[size_t(index_of(place, x.shape))] - x.v[size_t(i)]);
    y.v[size_t(i)] = log ? -std::log(sum) : 1 / sum;
  }
  return y;
}

inline Array nll_loss(const Array& logp, const std::vector<int64_t>& target, double smoothing) {
  Array loss(Shape{});
  const int64_t n = logp.shape[0], c = logp.shape[1];
  for (int64_t i = 0; i < n; ++i) {
    loss.v[0] -= (1 - smoothing) * logp({i, target[size_t(i)]}) / double(n);
    for (int64_t k = 0; k < c; ++k) loss.v[0] -= smoothing / double(c) * logp({i, k}) / double(n);
  }
  return loss;
}

inline Array permute(const Array& x, std::vector<int> dims) {
  Shape shape;
  for (int& d : dims) shape.push_back(x.shape[d = d < 0 ? d + x.shape.rank() : d]);
  Array y(shape);
  for (int64_t i = 0; i < x.shape.numel(); ++i) {
    const auto place = place_of(i, x.shape);
    std::vector<int64_t> there;
    for (int d : dims) there.push_back(place[size_t(d)]);
    y.v[size_t(index_of(there, shape))] = x.v[size_t(i)];
  }
  return y;
}

inline Array transpose(const Array& x, int d0, int d1) {
  std::vector<int> dims;
  for (int d = 0; d < x.shape.rank(); ++d) dims.push_back(d == d0 ? d1 : d == d1 ? d0 : d);
  return permute(x, dims);
}

inline Array cat(const Arrays& parts, int dim) {
  Shape shape = parts[0].shape;
  for (size_t i = 1; i < parts.size(); ++i) shape[dim] += parts[i].shape[dim];
  Array y(shape);
  int64_t begin = 0;
  for (const Array& part : parts) {
    for (int64_t i = 0; i < part.shape.numel(); ++i) {
      auto place = place_of(i, part.shape);
      place[size_t(dim)] += begin;
      y.v[size_t(index_of(place, shape))] = part.v[size_t(i)];
    }
    begin += part.shape[dim];
  }
  return y;
}

inline Array slice(const Array& x, int dim, int64_t begin, int64_t end) {
  Shape shape = x.shape;
  shape[dim] = end - begin;
  Array y(shape);
  for (int64_t i = 0; i < shape.numel(); ++i) {
    auto place = place_of(i, shape);
    place[size_t(dim)] += begin;
    y.v[size_t(i)] = x.v[size_t(index_of(place, x.shape))];
  }
  return y;
}

}  // namespace reference
