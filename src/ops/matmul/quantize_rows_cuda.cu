#include "device/cuda/launch.h"
#include "ops/matmul/fp8_rows.cuh"
#include "ops/matmul/matmul_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kMaxVectors = 8;  // per thread

template <int kVectors>
__global__ void __launch_bounds__(kThreads)
    quantize_rows_kernel(const __nv_bfloat16* x, int columns, int64_t rows, Fp8Rows out) {
  __shared__ float maxima[32];
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t row = blockIdx.x;
  float values[kVectors][kVector] = {};
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int column = (i * kThreads + static_cast<int>(threadIdx.x)) * kVector;
    if (column < columns) to_floats(load_vector(x + row * columns + column), values[i]);
  }
  store_fp8_row(values, columns, row, rows, out, maxima);
}

}  // namespace

void quantize_rows(const CudaStream& stream, const __nv_bfloat16* x, int64_t rows, int64_t columns,
                   const Fp8Rows& out) {
  if (rows == 0) return;
  CHECK(columns % kVector == 0 && columns <= kMaxVectors * kThreads * kVector &&
            (!out.blocks || columns % kFp8Block == 0),
        "{} columns", columns);
  const int64_t vectors = (columns + kThreads * kVector - 1) / (kThreads * kVector);
  auto* kernel = vectors <= 1   ? &quantize_rows_kernel<1>
                 : vectors <= 2 ? &quantize_rows_kernel<2>
                 : vectors <= 4 ? &quantize_rows_kernel<4>
                                : &quantize_rows_kernel<kMaxVectors>;
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>(rows)), .block = dim3(kThreads), .dependent = true}, kernel, x,
         static_cast<int>(columns), rows, out);
}

}  // namespace crible::cuda
