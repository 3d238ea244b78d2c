// Filling by counter: element i of draw d is a function of (seed, d, i), so threads only share the work.
#include <espalier/core/kernels.h>
#include <espalier/core/parallel.h>
#include <espalier/core/random.h>
#include <espalier/nn/init.h>

#define EIGEN_DONT_PARALLELIZE  // one thread, the same bits
#include <Eigen/QR>

namespace espalier {

namespace {

thread_local RandomState state;
thread_local bool skip = false;

// Writes value(stream, i) at memory place i, through a host copy where the tensor is elsewhere.
template <class F>
void fill_random(Tensor& t, F value) {
  if (skip) return constant_(t, 0);
  const uint64_t seed = state.seed, stream = next_stream("init");
  Tensor host = t.device().kind == Device::cpu ? t : Tensor::empty(t.shape());
  float* data = host.out().f32();
  parallel_for(t.numel(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) data[i] = float(value(seed, stream, uint64_t(i)));
  });
  if (!host.same_memory(t)) t.copy_from(host);
}

}  // namespace

RandomState& random_state() { return state; }
void manual_seed(uint64_t seed) { state = {seed, 0}; }
uint64_t next_stream(const char* purpose) { return stream_of(purpose, state.draws++); }

Tensor next_draw(const char* purpose, Device device) {
  thread_local Tensor copy;     // of the state, on the device of the last draw
  thread_local RandomState in;  // what it holds
  if (!copy.defined() || copy.device() != device || in.seed != state.seed || in.draws != state.draws)
    copy = Tensor::from(std::vector<int64_t>{int64_t(state.seed), int64_t(state.draws)}, {2}).to(device);
  Tensor draw = Tensor::empty({2}, DType::s64, device);
  run::next_draw(device, purpose_of(purpose), copy.out(), draw.out());
  ++state.draws;
  in = state;
  return draw;
}

SkipInit::SkipInit() : before_(skip) { skip = true; }
SkipInit::~SkipInit() { skip = before_; }

void constant_(Tensor& t, float value) { run::fill(t.device(), t.out(), value); }

void uniform_(Tensor& t, double low, double high) {
  fill_random(t, [=](uint64_t seed, uint64_t stream, uint64_t i) {
    return low + (high - low) * double(random_uniform(seed, stream, i));
  });
}

void normal_(Tensor& t, double mean, double deviation) {
  fill_random(
      t, [=](uint64_t seed, uint64_t stream, uint64_t i) { return mean + deviation * random_normal(seed, stream, i); });
}

int64_t fan_in(const Tensor& weight) {
  if (weight.rank() < 2) fail(ErrorKind::other, "[init] fan-in of shape ", weight.shape(), ", expected rank 2 or more");
  int64_t n = 1;
  for (int i = 1; i < weight.rank(); ++i) n *= weight.dim(i);
  return n;
}

void kaiming_uniform_(Tensor& t, double a) {
  const double bound = std::sqrt(6 / ((1 + a * a) * double(fan_in(t))));
  uniform_(t, -bound, bound);
}

void kaiming_normal_(Tensor& t, double a) { normal_(t, 0, std::sqrt(2 / ((1 + a * a) * double(fan_in(t))))); }

void xavier_uniform_(Tensor& t, double gain) {
  const int64_t in = fan_in(t), out = t.numel() / std::max<int64_t>(1, t.dim(1));
  const double bound = gain * std::sqrt(6 / double(in + out));
  uniform_(t, -bound, bound);
}

// Q of the QR decomposition of a normal matrix; each column times the sign of R's diagonal, so that every orthogonal
// matrix is equally likely.
void orthogonal_(Tensor& t, double gain) {
  if (t.numel() == 0) return;
  const Eigen::Index cols = fan_in(t), rows = t.numel() / cols, small = std::min(rows, cols);
  Tensor host = Tensor::empty(t.shape());
  normal_(host, 0, 1);
  if (skip) return constant_(t, 0);
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  Eigen::Map<Matrix> values(host.mutable_data(), rows, cols);
  Eigen::MatrixXd tall = values.cast<double>();
  if (rows < cols) tall.transposeInPlace();
  const Eigen::HouseholderQR<Eigen::MatrixXd> qr(tall);
  Eigen::MatrixXd q = qr.householderQ() * Eigen::MatrixXd::Identity(tall.rows(), small);
  for (Eigen::Index i = 0; i < small; ++i) q.col(i) *= qr.matrixQR()(i, i) < 0 ? -gain : gain;
  if (rows < cols) q.transposeInPlace();
  values = q.cast<float>();
  t.copy_from(host);
}

Tensor randn(const Shape& shape) {
  Tensor t = Tensor::empty(shape);
  normal_(t, 0, 1);
  return t;
}

Tensor rand(const Shape& shape) {
  Tensor t = Tensor::empty(shape);
  uniform_(t, 0, 1);
  return t;
}

}  // namespace espalier
