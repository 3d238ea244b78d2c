// Sums. The summed elements are cut into chunks whose number depends on the problem alone; each chunk adds up in
// double, and the chunks' sums are added in order, so that the result does not know how many threads there were.
#include <espalier/core/cpu/kernels.h>
#include <espalier/core/parallel.h>

#include <algorithm>
#include <vector>

namespace espalier::cpu {

namespace {

constexpr int64_t chunk_elements = 16384;
constexpr int64_t most_chunks = 64;

// Offsets of a row-major walk over some of a Reduce's dimensions.
struct Walk {
  const int64_t *dims, *strides;
  int rank;
  int64_t offset(int64_t i) const {
    int64_t at = 0;
    for (int d = rank - 1; d >= 0; --d) {
      at += i % dims[d] * strides[d];
      i /= dims[d];
    }
    return at;
  }
};

// Σ of n elements, eight sums side by side.
double sum_row(const float* x, int64_t n, int64_t step) {
  double lanes[8] = {};
  int64_t i = 0;
  if (step == 1)
    for (; i + 8 <= n; i += 8)
      for (int l = 0; l < 8; ++l) lanes[l] += double(x[i + l]);
  for (; i < n; ++i) lanes[i % 8] += double(x[i * step]);
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

void add_row(double* sum, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += double(x[i]);
}

}  // namespace

void reduce_sum(const Reduce& g, float scale, In x, Out y) {
  const float* in = x.f32();
  float* out = y.f32();
  int64_t kept = 1, summed = 1;
  for (int d = 0; d < g.kept; ++d) kept *= g.dims[size_t(d)];
  for (int d = 0; d < g.reduced; ++d) summed *= g.dims[size_t(g.kept + d)];
  if (kept == 0) return;
  const Walk outputs{g.dims.data(), g.strides.data(), g.kept};

  // Columns: the kept elements that lie side by side are summed side by side.
  const int last = g.kept - 1;
  const int64_t columns =
      last >= 0 && g.strides[size_t(last)] == 1 && g.dims[size_t(last)] >= 4 ? g.dims[size_t(last)] : 1;
  // Runs: the innermost summed dimension.
  const int64_t run = g.reduced ? g.dims[size_t(g.kept + g.reduced - 1)] : 1;
  const int64_t step = g.reduced ? g.strides[size_t(g.kept + g.reduced - 1)] : 1;
  const Walk rows{g.dims.data() + g.kept, g.strides.data() + g.kept, std::max(g.reduced - 1, 0)};
  const int64_t groups = kept / columns, count = run ? summed / run : 0;

  // A unit of work is a stretch of runs; short loops over many rows and long ones over few are both cut.
  const int64_t run_parts = columns > 1 || count > 1 ? 1 : std::clamp<int64_t>(run / chunk_elements, 1, most_chunks);
  const bool by_run = run_parts > 1 || (columns > 1 && count <= 1);
  const int64_t units = by_run ? run : count;  // what is cut
  const int64_t per_unit = by_run ? columns : run * columns;
  const int64_t work = units * per_unit;
  const int64_t chunks =
      groups >= most_chunks
          ? 1
          : std::clamp<int64_t>(work / chunk_elements, 1, std::max<int64_t>(1, std::min(units, most_chunks)));

  std::vector<double> partial(static_cast<size_t>(chunks * kept), 0.0);
  parallel_for(groups * chunks, std::max<int64_t>(1, chunk_elements * chunks / std::max<int64_t>(work, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t job = begin; job < end; ++job) {
                   const int64_t group = job / chunks, chunk = job % chunks;
                   const int64_t first = units * chunk / chunks, stop = units * (chunk + 1) / chunks;
                   const float* base = in + outputs.offset(group * columns);
                   double* sum = partial.data() + chunk * kept + group * columns;
                   auto over = [&](const float* p, int64_t from, int64_t to) {
                     if (columns == 1)
                       sum[0] += sum_row(p + from * step, to - from, step);
                     else
                       for (int64_t i = from; i < to; ++i) add_row(sum, p + i * step, columns);
                   };
                   if (by_run) {
                     if (count) over(base, first, stop);
                   } else {
                     for (int64_t r = first; r < stop; ++r) over(base + rows.offset(r), 0, run);
                   }
                 }
               });
  parallel_for(kept, chunk_elements, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      double sum = 0;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += partial[size_t(chunk * kept + i)];
      out[i] = float(double(scale) * sum);
    }
  });
}

}  // namespace espalier::cpu
