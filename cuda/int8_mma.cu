// Convolution of codes on tensor cores (m16n8k32, u8 by s8, sums in s32): the twin, for the device alone, of ConvInt8
// in kernels/int8.h. Sums of integers are exact, so the twin has to be equal, every code. It serves one group, s8
// weights without a zero, and channels in multiples of 16, so that a tap's codes come in pieces of 16 bytes; everything
// else is ConvInt8's.
#include <espalier/cuda/int8_mma.h>
#include <espalier/cuda/kernels/int8.h>

namespace espalier::cuda {

namespace {

constexpr int Rows = 64, Cols = 64, Slice = 64, Piece = 16, Threads = 128;
constexpr int Pitch = Slice + Piece;  // of a row in shared memory: neighbours meet other banks

struct MmaConv {
  Conv g;
  Requant r;
  int64_t oh, ow, width;
  const uint8_t* x;
  const int8_t* w;
  const int32_t* bias;
  const float* scale;
  uint8_t* codes;  // one of the two is written
  float* reals;

  // Piece of 16 codes from place k of a row's window on: zx in the padding.
  __device__ uint4 codes_at(int64_t row, int64_t k) const {
    if (row >= g.n * oh * ow || k >= width) return make_uint4(0, 0, 0, 0);
    const int64_t tap = k / g.c;
    const int64_t iy = row / ow % oh * g.stride_h - g.pad_h + tap / g.kw * g.dilation_h;
    const int64_t ix = row % ow * g.stride_w - g.pad_w + tap % g.kw * g.dilation_w;
    const uint32_t four = 0x01010101u * uint32_t(r.zx);
    if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) return make_uint4(four, four, four, four);
    return *reinterpret_cast<const uint4*>(x + ((row / (oh * ow) * g.h + iy) * g.w + ix) * g.c + k % g.c);
  }
  __device__ uint4 weights_at(int64_t col, int64_t k) const {
    if (col >= g.o || k >= width) return make_uint4(0, 0, 0, 0);
    return *reinterpret_cast<const uint4*>(w + col * width + k);
  }
};

__device__ void multiply(int32_t (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// 64 pixels by 64 channels per block; each of its four warps has 32 by 32, two fragments of 16 rows by four of 8
// columns.
__global__ void __launch_bounds__(Threads) run_mma(const __grid_constant__ MmaConv k) {
  __shared__ __align__(16) uint8_t xs[Rows][Pitch], ws[Cols][Pitch];
  __shared__ int32_t sums[Cols];  // of each channel's weights
  const int thread = int(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int row_part = warp / 2 * 32, col_part = warp % 2 * 32, quad = lane / 4, within = lane % 4;
  const int64_t row0 = int64_t(blockIdx.x) * Rows, col0 = int64_t(blockIdx.y) * Cols;
  int32_t acc[2][4][4] = {};
  if (thread < Cols) sums[thread] = 0;
  __syncthreads();
  for (int64_t k0 = 0; k0 < k.width; k0 += Slice) {
    for (int i = thread; i < Rows * Slice / Piece; i += Threads) {
      const int at = i / (Slice / Piece), first = i % (Slice / Piece) * Piece;
      *reinterpret_cast<uint4*>(&xs[at][first]) = k.codes_at(row0 + at, k0 + first);
      const uint4 weights = k.weights_at(col0 + at, k0 + first);
      *reinterpret_cast<uint4*>(&ws[at][first]) = weights;
      int32_t sum = 0;
      for (const uint32_t four : {weights.x, weights.y, weights.z, weights.w}) sum = __dp4a(int(four), 0x01010101, sum);
      atomicAdd(&sums[at], sum);  // of integers: in any order
    }
    __syncthreads();
    for (int step = 0; step < Slice; step += 32) {
      const int at = step + within * 4;
      const auto four = [](const uint8_t* bytes) { return *reinterpret_cast<const uint32_t*>(bytes); };
      uint32_t a[2][4], b[4][2];
      for (int i = 0; i < 2; ++i) {
        const int row = row_part + i * 16 + quad;
        a[i][0] = four(&xs[row][at]), a[i][1] = four(&xs[row + 8][at]);
        a[i][2] = four(&xs[row][at + 16]), a[i][3] = four(&xs[row + 8][at + 16]);
      }
      for (int j = 0; j < 4; ++j) {
        const int col = col_part + j * 8 + quad;
        b[j][0] = four(&ws[col][at]), b[j][1] = four(&ws[col][at + 16]);
      }
      for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 4; ++j) multiply(acc[i][j], a[i], b[j]);
    }
    __syncthreads();
  }
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 4; ++j)
      for (int e = 0; e < 4; ++e) {
        const int col_here = col_part + j * 8 + within * 2 + e % 2;
        const int64_t row = row0 + row_part + i * 16 + quad + e / 2 * 8, col = col0 + col_here;
        if (row >= k.g.n * k.oh * k.ow || col >= k.g.o) continue;
        const uint32_t first = (k.bias ? uint32_t(k.bias[col]) : 0u) - uint32_t(k.r.zx) * uint32_t(sums[col_here]);
        const int32_t sum = int32_t(first + uint32_t(acc[i][j][e]));
        const int64_t at = row * k.g.o + col;
        if (k.reals)
          k.reals[at] = times(float(sum), k.scale[col]);
        else
          k.codes[at] = uint8_t(requantize(sum, k.scale[col], k.r.zy, k.r.lo, k.r.hi));
      }
}

bool in_pieces(In t) { return reinterpret_cast<uintptr_t>(t.data) % Piece == 0; }

}  // namespace

bool conv2d_int8_mma(const Conv& g, const Requant& r, In x, In w, In zero, In b, In scale, Out y) {
  if (g.groups != 1 || g.c % Piece != 0 || w.dtype != DType::s8 || zero || r.weight_bits != 8) return false;
  if (!in_pieces(x) || !in_pieces(w) || y.numel == 0) return false;
  MmaConv k{};
  k.g = g, k.r = r, k.oh = g.out_h(), k.ow = g.out_w(), k.width = g.kh * g.kw * g.c;
  k.x = x.as<uint8_t>(), k.w = w.as<int8_t>(), k.bias = b.as<int32_t>(), k.scale = scale.f32();
  k.codes = y.dtype == DType::f32 ? nullptr : y.as<uint8_t>();
  k.reals = y.dtype == DType::f32 ? y.f32() : nullptr;
  const int64_t row_blocks = (g.n * k.oh * k.ow + Rows - 1) / Rows, col_blocks = (g.o + Cols - 1) / Cols;
  if (row_blocks > 0x7fffffff || col_blocks > 65535) return false;
  run_mma<<<dim3(unsigned(row_blocks), unsigned(col_blocks)), Threads>>>(k);
  check(cudaGetLastError(), "conv2d_int8 on tensor cores");
  return true;
}

}  // namespace espalier::cuda
