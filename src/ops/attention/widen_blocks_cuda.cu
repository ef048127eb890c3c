#include "device/cuda/launch.h"
#include "ops/attention/widen_blocks_cuda.h"
#include "ops/fp8_vector.cuh"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;

// A block of the grid takes the keys or the values of one listed block of the cache.
__global__ void __launch_bounds__(kThreads)
    widen_kernel(KvCache cache, const int32_t* listed, int half, __nv_bfloat16* out) {
  const bool is_v = blockIdx.y == 1;
  const auto* from =
      static_cast<const uint8_t*>(is_v ? cache.v : cache.k) + listed[blockIdx.x] * cache.block_stride;
  __nv_bfloat16* to = out + (static_cast<int64_t>(blockIdx.x) * 2 + blockIdx.y) * half;
  const float scale = is_v ? cache.v_scale : cache.k_scale;
  for (int i = static_cast<int>(threadIdx.x) * kVector; i < half; i += kThreads * kVector) {
    float x[kVector];
    to_floats(load_vector(from + i), x);
#pragma unroll
    for (int j = 0; j < kVector; ++j) x[j] *= scale;
    store_vector(to + i, to_vector(x));
  }
}

}  // namespace

void widen_blocks(const CudaStream& stream, const AttentionShape& shape, const KvCache& cache,
                  const int32_t* listed, int64_t count, __nv_bfloat16* out) {
  if (count == 0) return;
  CHECK(cache.type == KvType::kFp8, "nothing to widen");
  const int64_t half = shape.kv_heads * shape.block_size * shape.head_size;
  launch(stream.get(), {.grid = dim3(static_cast<unsigned>(count), 2), .block = dim3(kThreads)},
         &widen_kernel, cache, listed, static_cast<int>(half), out);
}

}  // namespace crible::cuda
