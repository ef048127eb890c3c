#include "device/cuda/launch.h"
#include "ops/matmul/row_hashes_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;

// SplitMix64's output function.
__device__ inline uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Sums of mixed words: they do not depend on the order of the threads.
__global__ void __launch_bounds__(kThreads)
    hash_kernel(const uint32_t* data, int64_t words, uint64_t* hashes) {
  __shared__ unsigned long long total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  uint64_t sum = 0;
  for (int64_t i = threadIdx.x; i < words; i += kThreads)
    sum += mix((static_cast<uint64_t>(i) << 32) + data[blockIdx.x * words + i] + 1);
  atomicAdd(&total, static_cast<unsigned long long>(sum));
  __syncthreads();
  if (threadIdx.x == 0) hashes[blockIdx.x] = total;
}

}  // namespace

void hash_rows(const CudaStream& stream, const void* data, int64_t rows, int64_t row_bytes,
               uint64_t* hashes) {
  if (rows == 0) return;
  CHECK(row_bytes % 4 == 0, "rows of {} bytes", row_bytes);
  launch(stream.get(), {.grid = dim3(static_cast<unsigned>(rows)), .block = dim3(kThreads)}, &hash_kernel,
         static_cast<const uint32_t*>(data), row_bytes / 4, hashes);
}

}  // namespace crible::cuda
