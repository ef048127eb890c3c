#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/matmul/fp8_rows.cuh"
#include "ops/silu_mul/silu_mul_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRowThreads = 512;   // of a block that quantises a whole row
constexpr int kMaxRowVectors = 8;  // per thread of it

// gate becomes silu(gate) · up.
__device__ inline void gated(const __nv_bfloat16* x, int64_t columns, float (&gate)[kVector]) {
  float up[kVector];
  to_floats(load_vector(x), gate);
  to_floats(load_vector(x + columns), up);
#pragma unroll
  for (int j = 0; j < kVector; ++j) gate[j] = gate[j] / (1.0f + __expf(-gate[j])) * up[j];
}

__global__ void __launch_bounds__(kThreads) silu_mul_kernel(SiluMulArgs a) {
  const int64_t row = blockIdx.y;
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kVector;
  if (column >= a.columns) return;
  float gate[kVector];
  gated(a.gate_up + row * 2 * a.columns + column, a.columns, gate);
  store_vector(a.out + row * a.columns + column, to_vector(gate));
}

template <int kVectors>
__global__ void __launch_bounds__(kRowThreads) silu_mul_fp8_kernel(SiluMulArgs a) {
  __shared__ float maxima[32];
  const int64_t row = blockIdx.x;
  float values[kVectors][kVector] = {};
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int64_t column = (i * kRowThreads + static_cast<int>(threadIdx.x)) * kVector;
    if (column < a.columns) gated(a.gate_up + row * 2 * a.columns + column, a.columns, values[i]);
  }
  store_fp8_row(values, static_cast<int>(a.columns), row, a.rows, a.quantised, maxima);
}

void silu_mul_fp8(const CudaStream& stream, const SiluMulArgs& args) {
  CHECK(args.columns <= kMaxRowVectors * kRowThreads * kVector &&
            (!args.quantised.blocks || args.columns % kFp8Block == 0),
        "{} columns", args.columns);
  const int64_t vectors = (args.columns + kRowThreads * kVector - 1) / (kRowThreads * kVector);
  auto* kernel = vectors <= 1   ? &silu_mul_fp8_kernel<1>
                 : vectors <= 2 ? &silu_mul_fp8_kernel<2>
                 : vectors <= 4 ? &silu_mul_fp8_kernel<4>
                                : &silu_mul_fp8_kernel<kMaxRowVectors>;
  launch(stream.get(), {.grid = dim3(static_cast<unsigned>(args.rows)), .block = dim3(kRowThreads)}, kernel,
         args);
}

}  // namespace

void silu_mul(const CudaStream& stream, const SiluMulArgs& args) {
  if (args.rows == 0) return;
  CHECK(args.columns % kVector == 0, "{} columns", args.columns);
  if (args.quantised.data != nullptr) return silu_mul_fp8(stream, args);
  constexpr int64_t kColumns = kThreads * kVector;
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>((args.columns + kColumns - 1) / kColumns),
                       static_cast<unsigned>(args.rows)),
          .block = dim3(kThreads)},
         &silu_mul_kernel, args);
}

}  // namespace crible::cuda
