#include "device/cuda/launch.h"
#include "ops/machine_ceiling_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kInFlight = 8;

// kKeep: what was read stays in the second-level cache as long as anything; else it is the first to go.
template <bool kKeep>
__global__ void __launch_bounds__(kThreads, 2) read_kernel(const uint4* data, int64_t count, uint32_t* sink) {
  uint32_t mixed = 0;
  const int64_t step = int64_t{gridDim.x} * kThreads * kInFlight;
  for (int64_t start = blockIdx.x * int64_t{kThreads * kInFlight} + threadIdx.x; start < count;
       start += step) {
    uint4 values[kInFlight];
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) {
      const int64_t at = start + i * kThreads;
      values[i] = at >= count ? uint4{0, 0, 0, 0} : kKeep ? __ldcg(data + at) : __ldcs(data + at);
    }
#pragma unroll
    for (int i = 0; i < kInFlight; ++i) mixed ^= values[i].x ^ values[i].y ^ values[i].z ^ values[i].w;
  }
  // Never true of random data, but the compiler cannot know: the loads stay.
  if (mixed == 0x12345678u) *sink = mixed;
}

template <bool kKeep>
void read(const CudaStream& stream, const void* data, int64_t bytes, uint32_t* sink) {
  constexpr unsigned kBlocks = 132 * 2 * 4;
  launch(stream.get(), {.grid = dim3(kBlocks), .block = dim3(kThreads)}, &read_kernel<kKeep>,
         static_cast<const uint4*>(data), bytes / 16, sink);
}

}  // namespace

void read_all(const CudaStream& stream, const void* data, int64_t bytes, uint32_t* sink) {
  read<false>(stream, data, bytes, sink);
}

void read_into_cache(const CudaStream& stream, const void* data, int64_t bytes, uint32_t* sink) {
  read<true>(stream, data, bytes, sink);
}

}  // namespace crible::cuda
