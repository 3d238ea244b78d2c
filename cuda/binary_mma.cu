// Convolution of signs on tensor cores (m16n8k256 of single bits, and, ones counted): the twin, for the device alone,
// of ConvBinary in kernels/binary.h, whose windows and weights it reads. With m the bits of a window that lie inside
// and x those of them that are set, x and w differ in |x| + |m and w| - 2|x and w| bits: two products, and sums of
// integers are exact, so the twin has to be equal, every code. It has not run on a GPU yet.
#include <espalier/cuda/binary_mma.h>
#include <espalier/cuda/kernels/binary.h>

namespace espalier::cuda {

namespace {

constexpr int Rows = ConvBinary::Rows, Cols = ConvBinary::Cols, Words = 8, Threads = 128;
constexpr int Pitch = Words + 4;  // of a row in shared memory: neighbours meet other banks

__device__ void count_ones(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// 64 pixels by 64 channels per block; each of its four warps has 32 by 32, two fragments of 16 rows by four of 8
// columns. A fragment's lanes hold words `within` and `within` + 4 of a row, of both operands.
__global__ void __launch_bounds__(Threads) run_binary_mma(const __grid_constant__ ConvBinary k) {
  __shared__ uint32_t xs[Rows][Pitch], inside[Rows][Pitch], ws[Cols][Pitch];
  __shared__ int32_t ones[Rows], counts[Rows];  // |x| and |m| of each pixel
  const int thread = int(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int row_part = warp / 2 * 32, col_part = warp % 2 * 32, quad = lane / 4, within = lane % 4;
  const int64_t row0 = int64_t(blockIdx.x) * Rows, col0 = int64_t(blockIdx.y) * Cols;
  int32_t of_x[2][4][4] = {}, of_inside[2][4][4] = {};
  if (thread < Rows) ones[thread] = counts[thread] = 0;
  __syncthreads();
  for (int64_t k0 = 0; k0 < k.g.kh * k.g.kw * k.words; k0 += Words) {
    for (int i = thread; i < Rows * Words; i += Threads) {
      const int at = i / Words, word = i % Words;
      int64_t from = 0;
      const uint32_t mask = k.inside(row0 + at, k0 + word, from), x = mask ? k.bits[from] & mask : 0;
      xs[at][word] = x, inside[at][word] = mask;
      ws[at][word] = k.weight_at(col0 + at, k0 + word);
      atomicAdd(&ones[at], __popc(x));  // of integers: in any order
      atomicAdd(&counts[at], __popc(mask));
    }
    __syncthreads();
    uint32_t b[4][2];
    for (int j = 0; j < 4; ++j) {
      const int col = col_part + j * 8 + quad;
      b[j][0] = ws[col][within], b[j][1] = ws[col][within + 4];
    }
    for (int i = 0; i < 2; ++i) {
      const int row = row_part + i * 16 + quad;
      const auto rows_of = [&](const uint32_t(&from)[Rows][Pitch], uint32_t(&a)[4]) {
        a[0] = from[row][within], a[1] = from[row + 8][within];
        a[2] = from[row][within + 4], a[3] = from[row + 8][within + 4];
      };
      uint32_t x[4], m[4];
      rows_of(xs, x), rows_of(inside, m);
      for (int j = 0; j < 4; ++j) {
        count_ones(of_x[i][j], x, b[j]);
        count_ones(of_inside[i][j], m, b[j]);
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      for (int e = 0; e < 4; ++e) {
        const int row_here = row_part + i * 16 + quad + e / 2 * 8;
        const int64_t row = row0 + row_here, col = col0 + col_part + j * 8 + within * 2 + e % 2;
        if (row >= k.g.n * k.oh * k.ow || col >= k.g.o) continue;
        const int32_t differ = ones[row_here] + of_inside[i][j][e] - 2 * of_x[i][j][e];
        const uint32_t first = k.bias ? uint32_t(k.bias[col]) : 0u;
        const int32_t acc = int32_t(uint32_t(counts[row_here] - 2 * differ) + first);
        const int64_t at = row * k.g.o + col;
        if (k.reals)
          k.reals[at] = times(float(acc), k.scale[col]);
        else
          k.codes[at] = uint8_t(requantize(acc, k.scale[col], k.r.zy, k.r.lo, k.r.hi));
      }
}

}  // namespace

bool conv2d_binary_mma(const Conv& g, const Requant& r, In x, In w, In b, In scale, Out y) {
  static_assert(Rows == Cols, "pixels and channels are loaded together");
  const int64_t rows = g.n * g.out_h() * g.out_w();
  const int64_t row_blocks = (rows + Rows - 1) / Rows, col_blocks = (g.o + Cols - 1) / Cols;
  if (y.numel == 0 || row_blocks > 0x7fffffff || col_blocks > 65535) return false;
  const Scratch scratch(floats_for_bits(g));
  const ConvBinary k = conv_of_bits(g, r, x, w, b, scale, y, scratch);
  run_binary_mma<<<dim3(unsigned(row_blocks), unsigned(col_blocks)), Threads>>>(k);
  check(cudaGetLastError(), "conv2d_binary on tensor cores");
  return true;
}

}  // namespace espalier::cuda
