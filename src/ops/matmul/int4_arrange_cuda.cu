#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/matmul/int4_arrange_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kRun = 32;     // columns that are permuted among themselves: four vectors
constexpr int kMaxRuns = 4;  // of a row per thread, in registers: up to 32,768 columns

struct Run {
  uint4 vectors[4];
};

__device__ inline Run load_run(const __nv_bfloat16* from) {
  Run run;
#pragma unroll
  for (int i = 0; i < 4; ++i) run.vectors[i] = reinterpret_cast<const uint4*>(from)[i];
  return run;
}

// Vector j of the result is pair j of each of the four.
__device__ inline void store_run(const ArrangeArgs& a, int64_t row, int64_t run, const Run& r) {
  const int64_t in_block = row % a.block;
  const int64_t halves = a.columns / 64;  // 64 columns: two runs, a row of 128 bytes
  auto* to =
      static_cast<uint8_t*>(a.out) + (row / a.block * halves + run / 2) * a.block * 128 + in_block * 128;
  const auto chunk = [&](int j) {
    return reinterpret_cast<uint4*>(to + ((run % 2 * 4 + j) ^ (in_block & 7)) * 16);
  };
  const uint4* v = r.vectors;
  *chunk(0) = {v[0].x, v[1].x, v[2].x, v[3].x};
  *chunk(1) = {v[0].y, v[1].y, v[2].y, v[3].y};
  *chunk(2) = {v[0].z, v[1].z, v[2].z, v[3].z};
  *chunk(3) = {v[0].w, v[1].w, v[2].w, v[3].w};
}

// A thread per run.
__global__ void __launch_bounds__(kThreads) arrange_kernel(ArrangeArgs a) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  cudaTriggerProgrammaticLaunchCompletion();
  const int64_t runs = a.columns / kRun;
  if (index >= a.rows * runs) return;
  const int64_t row = index / runs;
  const int64_t run = index % runs;
  cudaGridDependencySynchronize();
  store_run(a, row, run, load_run(a.x + row * a.columns + run * kRun));
}

// A block per row.
template <int kRuns>
__global__ void __launch_bounds__(kThreads) arrange_norm_kernel(ArrangeArgs a) {
  __shared__ float sums[32];
  const int64_t row = blockIdx.x;
  const int runs = static_cast<int>(a.columns) / kRun;
  cudaTriggerProgrammaticLaunchCompletion();
  Run weights[kRuns];  // no kernel writes them: on their way while the one before ends
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    const int run = i * kThreads + static_cast<int>(threadIdx.x);
    if (run < runs) weights[i] = load_run(a.norm_weight + run * kRun);
  }
  cudaGridDependencySynchronize();
  Run x[kRuns];
  float sum = 0;
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    const int run = i * kThreads + static_cast<int>(threadIdx.x);
    if (run >= runs) break;
    x[i] = load_run(a.x + row * a.columns + run * kRun);
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      float values[kVector];
      to_floats(reinterpret_cast<const Bf16Vector&>(x[i].vectors[v]), values);
#pragma unroll
      for (int j = 0; j < kVector; ++j) sum += values[j] * values[j];
    }
  }
  const float scale = rsqrtf(block_sum(sum, sums) / static_cast<float>(a.columns) + a.epsilon);
#pragma unroll
  for (int i = 0; i < kRuns; ++i) {
    const int run = i * kThreads + static_cast<int>(threadIdx.x);
    if (run >= runs) break;
#pragma unroll
    for (int v = 0; v < 4; ++v) {
      float values[kVector];
      float weight[kVector];
      to_floats(reinterpret_cast<const Bf16Vector&>(x[i].vectors[v]), values);
      to_floats(reinterpret_cast<const Bf16Vector&>(weights[i].vectors[v]), weight);
#pragma unroll
      for (int j = 0; j < kVector; ++j) values[j] *= scale * weight[j];
      const Bf16Vector normed = to_vector(values);
      x[i].vectors[v] = reinterpret_cast<const uint4&>(normed);
    }
    store_run(a, row, run, x[i]);
  }
}

}  // namespace

void arrange(const CudaStream& stream, const ArrangeArgs& args) {
  if (args.rows == 0) return;
  CHECK(args.columns % 128 == 0 && args.block % 8 == 0 && args.columns <= kMaxRuns * kThreads * kRun,
        "{} columns, blocks of {}", args.columns, args.block);
  const int64_t runs = args.columns / kRun;
  if (args.norm_weight == nullptr) {
    const int64_t blocks = (args.rows * runs + kThreads - 1) / kThreads;
    launch(stream.get(),
           {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kThreads), .dependent = true},
           &arrange_kernel, args);
    return;
  }
  const LaunchShape shape = {
      .grid = dim3(static_cast<unsigned>(args.rows)), .block = dim3(kThreads), .dependent = true};
  launch(stream.get(), shape, runs <= kThreads ? &arrange_norm_kernel<1> : &arrange_norm_kernel<kMaxRuns>,
         args);
}

}  // namespace crible::cuda
