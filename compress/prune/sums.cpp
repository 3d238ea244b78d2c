// Activations by channel, inputs by place in a filter.
#include <espalier/compress/prune/sums.h>
#include <espalier/core/kernels.h>
#include <espalier/core/parallel.h>
#include <espalier/core/tape.h>
#include <espalier/nn/layers.h>

#include <algorithm>

namespace espalier {

namespace {

// Sums of a channels-last image, by channel, over chunks of rows that the shape alone decides.
constexpr int64_t rows_per_chunk = 2048;

// A convolution's inputs as its filters meet them; a linear layer's have one tap.
struct Unfold {
  int64_t n = 0, channels = 0, h = 1, w = 1, kh = 1, kw = 1, oh = 1, ow = 1, groups = 1;
  Window window = {};
  Unfold(Module& module, const Tensor& x) : n(x.dim(0)), channels(x.dim(1)) {
    auto* conv = dynamic_cast<Conv2d*>(&module);
    if (!conv) return;
    const Shape& k = conv->weight.value().shape();
    h = x.dim(2), w = x.dim(3), kh = k[2], kw = k[3], groups = conv->groups(), window = conv->window;
    oh = (h + 2 * window.padding.h - window.dilation.h * (kh - 1) - 1) / window.stride.h + 1;
    ow = (w + 2 * window.padding.w - window.dilation.w * (kw - 1) - 1) / window.stride.w + 1;
  }
  // The channels that output (i, y, x) reads at a tap; null: padding.
  const float* at(const float* data, int64_t i, int64_t y, int64_t x, int64_t th, int64_t tw) const {
    const int64_t row = y * window.stride.h - window.padding.h + th * window.dilation.h;
    const int64_t column = x * window.stride.w - window.padding.w + tw * window.dilation.w;
    if (row < 0 || row >= h || column < 0 || column >= w) return nullptr;
    return data + ((i * h + row) * w + column) * channels;
  }
};

}  // namespace

void add_to(Tensor& sum, const Tensor& x, float scale) {
  if (!sum.defined()) sum = Tensor::zeros(x.shape(), DType::f32, x.device());
  run::add_scaled(sum.device(), scale, x, sum.out());
}

void count_activations(const Tensor& y, float ceiling, LayerEvidence& e) {
  const Tensor here = y.to(Device{});
  const int64_t channels = here.rank() > 1 ? here.dim(1) : 1, rows = here.numel() / std::max<int64_t>(channels, 1);
  const int64_t chunks = (rows + rows_per_chunk - 1) / rows_per_chunk;
  e.zeros.resize(size_t(channels), 0);
  e.sums.resize(size_t(channels), 0);
  std::vector<int32_t> zeros(size_t(chunks * channels), 0);
  std::vector<double> sums(size_t(chunks * channels), 0);
  const float* data = here.data();
  parallel_for(chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      int32_t* zero = zeros.data() + chunk * channels;
      double* sum = sums.data() + chunk * channels;
      for (int64_t r = chunk * rows_per_chunk; r < std::min(rows, (chunk + 1) * rows_per_chunk); ++r) {
        const float* x = data + r * channels;
        for (int64_t c = 0; c < channels; ++c) {
          const float a = std::min(std::max(x[c], 0.f), ceiling);
          zero[c] += a == 0.f;
          sum[c] += double(a);
        }
      }
    }
  });
  for (int64_t chunk = 0; chunk < chunks; ++chunk)
    for (int64_t c = 0; c < channels; ++c) {
      e.zeros[size_t(c)] += zeros[size_t(chunk * channels + c)];
      e.sums[size_t(c)] += sums[size_t(chunk * channels + c)];
    }
  e.positions += rows;
}

void add_input_squares(Module& module, const Tensor& x, LayerEvidence& e) {
  const Tensor here = x.to(Device{});
  const Unfold u(module, here);
  const int64_t taps = u.kh * u.kw;
  const float* data = here.data();
  std::vector<double> sums(size_t(u.n * taps * u.channels), 0);  // by image, added in their order
  parallel_for(u.n * taps, 1, [&](int64_t begin, int64_t end) {
    for (int64_t place = begin; place < end; ++place) {
      const int64_t i = place / taps, tap = place % taps;
      double* sum = sums.data() + place * u.channels;
      for (int64_t y = 0; y < u.oh; ++y)
        for (int64_t column = 0; column < u.ow; ++column)
          if (const float* read = u.at(data, i, y, column, tap / u.kw, tap % u.kw))
            for (int64_t c = 0; c < u.channels; ++c) sum[c] += double(read[c]) * double(read[c]);
    }
  });
  e.input_squares.resize(size_t(u.channels * taps), 0);
  for (int64_t i = 0; i < u.n; ++i)
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < u.channels; ++c)
        e.input_squares[size_t(c * taps + tap)] += sums[size_t((i * taps + tap) * u.channels + c)];
  e.columns += u.n * u.oh * u.ow;
}

void add_gram(Module& module, const Tensor& x, LayerEvidence& e) {
  const Tensor here = x.to(Device{});
  const Unfold u(module, here);
  const int64_t taps = u.kh * u.kw, inputs = u.channels / u.groups, depth = inputs * taps;
  if (e.gram.empty())
    for (int64_t g = 0; g < u.groups; ++g) e.gram.push_back(Tensor::zeros({depth, depth}));
  NoGrad no_grad;
  const int64_t at_once = std::max<int64_t>(1, 4096 / (u.oh * u.ow));
  const float* data = here.data();
  for (int64_t g = 0; g < u.groups; ++g)
    for (int64_t first = 0; first < u.n; first += at_once) {
      const int64_t images = std::min(at_once, u.n - first), rows = images * u.oh * u.ow;
      Tensor columns = Tensor::zeros({rows, depth});
      float* out = columns.mutable_data();
      parallel_for(rows, 16, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          const int64_t i = first + r / (u.oh * u.ow), y = r / u.ow % u.oh, column = r % u.ow;
          for (int64_t tap = 0; tap < taps; ++tap)
            if (const float* read = u.at(data, i, y, column, tap / u.kw, tap % u.kw))
              for (int64_t c = 0; c < inputs; ++c) out[r * depth + c * taps + tap] = read[g * inputs + c];
        }
      });
      add_to(e.gram[size_t(g)], matmul(columns, columns, true, false));
    }
  e.columns += u.n * u.oh * u.ow;
}

}  // namespace espalier
