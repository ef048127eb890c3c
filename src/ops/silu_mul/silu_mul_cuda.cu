#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/silu_mul/silu_mul_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) silu_mul_kernel(SiluMulArgs a) {
  const int64_t row = blockIdx.y;
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kVector;
  if (column >= a.columns) return;
  const __nv_bfloat16* x = a.gate_up + row * 2 * a.columns + column;
  float gate[kVector];
  float up[kVector];
  to_floats(load_vector(x), gate);
  to_floats(load_vector(x + a.columns), up);
#pragma unroll
  for (int j = 0; j < kVector; ++j) gate[j] = gate[j] / (1.0f + __expf(-gate[j])) * up[j];
  store_vector(a.out + row * a.columns + column, to_vector(gate));
}

}  // namespace

void silu_mul(const CudaStream& stream, const SiluMulArgs& args) {
  if (args.rows == 0) return;
  CHECK(args.columns % kVector == 0, "{} columns", args.columns);
  constexpr int64_t kColumns = kThreads * kVector;
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>((args.columns + kColumns - 1) / kColumns),
                       static_cast<unsigned>(args.rows)),
          .block = dim3(kThreads)},
         &silu_mul_kernel, args);
}

}  // namespace crible::cuda
