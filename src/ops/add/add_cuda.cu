#include "base/units.h"
#include "device/cuda/launch.h"
#include "ops/add/add_cuda.h"
#include "ops/bf16_vector.cuh"

namespace crible::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) add_kernel(const __nv_bfloat16* x, int64_t count, __nv_bfloat16* out) {
  const int64_t place = (blockIdx.x * static_cast<int64_t>(kThreads) + threadIdx.x) * kVector;
  if (place >= count) return;
  float sum[kVector];
  float addend[kVector];
  to_floats(load_vector(out + place), sum);
  to_floats(load_vector(x + place), addend);
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum[i] += addend[i];
  store_vector(out + place, to_vector(sum));
}

}  // namespace

void add(const CudaStream& stream, const __nv_bfloat16* x, int64_t count, __nv_bfloat16* out) {
  if (count == 0) return;
  CHECK(count % kVector == 0, "{} values", count);
  const int64_t blocks = ceil_div(count, int64_t{kThreads} * kVector);
  launch(stream.get(), {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kThreads)}, &add_kernel, x, count,
         out);
}

}  // namespace crible::cuda
