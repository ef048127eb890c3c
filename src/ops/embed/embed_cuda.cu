#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/embed/embed_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) embed_kernel(EmbedArgs a) {
  const int64_t token = blockIdx.x;
  const int32_t named = a.token_ids[token];
  const int32_t id = named < -1 && a.drawn != nullptr ? a.drawn[-2 - named] : named;
  const bool known = id >= 0 && id < a.vocabulary;
  for (int64_t column = threadIdx.x * kVector; column < a.columns; column += kThreads * kVector) {
    const float zeros[kVector] = {};
    const Bf16Vector row = known ? load_vector(a.table + id * a.columns + column) : to_vector(zeros);
    store_vector(a.out + token * a.columns + column, row);
  }
}

}  // namespace

void embed(const CudaStream& stream, const EmbedArgs& args) {
  if (args.tokens == 0) return;
  CHECK(args.columns % kVector == 0, "{} columns", args.columns);
  launch(stream.get(), {.grid = dim3(static_cast<unsigned>(args.tokens)), .block = dim3(kThreads)},
         &embed_kernel, args);
}

}  // namespace crible::cuda
