#include <cuda_fp8.h>

#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/matmul/matmul_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kMaxVectors = 8;      // per thread
constexpr float kLargest = 448.0f;  // of E4M3

__global__ void __launch_bounds__(kThreads)
    quantize_rows_kernel(const __nv_bfloat16* x, int64_t columns, uint8_t* q, float* scales) {
  __shared__ float maxima[32];
  const int64_t row = blockIdx.x;
  float values[kMaxVectors][kVector];
  float largest = 0;
#pragma unroll
  for (int i = 0; i < kMaxVectors; ++i) {
    const int64_t column = (i * kThreads + threadIdx.x) * kVector;
    if (column >= columns) break;
    to_floats(load_vector(x + row * columns + column), values[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) largest = fmaxf(largest, fabsf(values[i][j]));
  }
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, offset));
  if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = largest;
  __syncthreads();
  for (int w = 0; w < kThreads / 32; ++w) largest = fmaxf(largest, maxima[w]);
  // A row of zeros keeps the scale 1.
  const float scale = largest > 0 ? largest / kLargest : 1.0f;
  if (threadIdx.x == 0) scales[row] = scale;
#pragma unroll
  for (int i = 0; i < kMaxVectors; ++i) {
    const int64_t column = (i * kThreads + threadIdx.x) * kVector;
    if (column >= columns) break;
    __nv_fp8x4_e4m3 packed[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      packed[j] = __nv_fp8x4_e4m3(make_float4(values[i][4 * j] / scale, values[i][4 * j + 1] / scale,
                                              values[i][4 * j + 2] / scale, values[i][4 * j + 3] / scale));
    }
    *reinterpret_cast<uint2*>(q + row * columns + column) = *reinterpret_cast<const uint2*>(packed);
  }
}

}  // namespace

void quantize_rows(const CudaStream& stream, const __nv_bfloat16* x, int64_t rows, int64_t columns,
                   uint8_t* q, float* scale) {
  if (rows == 0) return;
  CHECK(columns % kVector == 0 && columns <= kMaxVectors * kThreads * kVector, "{} columns", columns);
  launch(stream.get(), {.grid = dim3(static_cast<unsigned>(rows)), .block = dim3(kThreads)},
         &quantize_rows_kernel, x, columns, q, scale);
}

}  // namespace crible::cuda
