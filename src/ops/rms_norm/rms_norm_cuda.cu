#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/matmul/fp8_rows.cuh"
#include "ops/rms_norm/rms_norm_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kMaxVectors = 8;  // per thread

template <int kVectors, bool kFp8>
__global__ void __launch_bounds__(kThreads) rms_norm_kernel(RmsNormArgs a) {
  __shared__ float sums[32];
  __shared__ float maxima[32];
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t row = blockIdx.x;
  const __nv_bfloat16* x = a.x + (a.row_indices == nullptr ? row : a.row_indices[row]) * a.x_stride;
  float values[kVectors][kVector] = {};
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int column = (i * kThreads + static_cast<int>(threadIdx.x)) * kVector;
    if (column >= a.columns) break;
    to_floats(load_vector(x + column), values[i]);
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum += values[i][j] * values[i][j];
  }
  const float scale = rsqrtf(block_sum(sum, sums) / static_cast<float>(a.columns) + a.epsilon);
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int column = (i * kThreads + static_cast<int>(threadIdx.x)) * kVector;
    if (column >= a.columns) break;
    float weight[kVector];
    to_floats(load_vector(a.weight + column), weight);
#pragma unroll
    for (int j = 0; j < kVector; ++j) values[i][j] *= scale * weight[j];
    if constexpr (!kFp8) store_vector(a.out + row * a.out_stride + column, to_vector(values[i]));
  }
  if constexpr (kFp8) store_fp8_row(values, static_cast<int>(a.columns), row, a.rows, a.quantised, maxima);
}

template <bool kFp8>
auto* kernel_for(int64_t columns) {
  const int64_t vectors = (columns + kThreads * kVector - 1) / (kThreads * kVector);
  return vectors <= 1   ? &rms_norm_kernel<1, kFp8>
         : vectors <= 2 ? &rms_norm_kernel<2, kFp8>
         : vectors <= 4 ? &rms_norm_kernel<4, kFp8>
                        : &rms_norm_kernel<kMaxVectors, kFp8>;
}

}  // namespace

void rms_norm(const CudaStream& stream, const RmsNormArgs& args) {
  if (args.rows == 0) return;
  const bool fp8 = args.quantised.data != nullptr;
  CHECK(args.columns % kVector == 0 && args.columns <= kMaxVectors * kThreads * kVector &&
            (!fp8 || !args.quantised.blocks || args.columns % kFp8Block == 0),
        "{} columns", args.columns);
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>(args.rows)), .block = dim3(kThreads), .dependent = true},
         fp8 ? kernel_for<true>(args.columns) : kernel_for<false>(args.columns), args);
}

}  // namespace crible::cuda
