// First values of parameters, as PyTorch draws them (its distributions, our own numbers), and this thread's random
// state: a seed and a count of the draws so far. Each draw has a stream of its own, so a model's values depend on
// the seed and the order of construction, and a checkpoint of two integers resumes every later draw.
#pragma once
#include <espalier/core/tensor.h>

namespace espalier {

// A seed, and how many draws were taken from it.
struct RandomState {
  uint64_t seed = 0, draws = 0;
};
ESPALIER_API RandomState& random_state();                // of this thread; initialisers and Dropout draw from it
ESPALIER_API void manual_seed(uint64_t seed);            // draws start over
ESPALIER_API uint64_t next_stream(const char* purpose);  // takes one draw
// Takes one draw, as next_stream does, and gives (seed, stream), s64 [2], on a device. There the state has a copy that
// counts on by itself, so the host sends nothing as long as all draws between two of these are such draws, too.
ESPALIER_API Tensor next_draw(const char* purpose, Device device);

// All fill an f32 tensor in place, on any device: with one value.
ESPALIER_API void constant_(Tensor& t, float value);
ESPALIER_API void uniform_(Tensor& t, double low, double high);       // [low, high)
ESPALIER_API void normal_(Tensor& t, double mean, double deviation);  // by Box and Muller
// U(-b, b), b = sqrt(6 / ((1 + a²) · fan_in)); fan_in is the product of all sizes but the first. He et al. 2015,
// arXiv 1502.01852; PyTorch's layers use a = sqrt(5).
ESPALIER_API void kaiming_uniform_(Tensor& t, double a);
ESPALIER_API void kaiming_normal_(Tensor& t, double a);  // N(0, s²), s = sqrt(2 / ((1 + a²) · fan_in))
ESPALIER_API int64_t fan_in(const Tensor& weight);       // rank 2 or more, or throws
// U(-b, b), b = gain · sqrt(6 / (fan_in + fan_out)). Glorot and Bengio 2010.
ESPALIER_API void xavier_uniform_(Tensor& t, double gain = 1);
// gain times a matrix [size of dim 0][all others] with orthonormal rows or columns, whichever are fewer. Saxe et al.
// 2013, arXiv 1312.6120.
ESPALIER_API void orthogonal_(Tensor& t, double gain = 1);

// New f32 tensors from one draw: standard normal, or, by rand(), uniform in [0, 1).
ESPALIER_API Tensor randn(const Shape& shape);
ESPALIER_API Tensor rand(const Shape& shape);

// While it lives, this thread's random initialisers write zeros and draw nothing: for models about to be loaded.
class ESPALIER_API SkipInit {
 public:
  SkipInit();
  ~SkipInit();
  SkipInit(const SkipInit&) = delete;
  SkipInit& operator=(const SkipInit&) = delete;

 private:
  bool before_;
};

}  // namespace espalier
