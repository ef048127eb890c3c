// What the GPU can do at most, for the benches to compare with: a plain read of device memory.
#pragma once

#include <cstdint>

#include "device/cuda/cuda_stream.h"

namespace crible::cuda {

// Reads `bytes` once with 16-byte loads, 64 KB in flight per multiprocessor; writes one word.
void read_all(const CudaStream& stream, const void* data, int64_t bytes, uint32_t* sink);
// The same, but what fits of it is in the second-level cache afterwards, and nothing else. sink may lie in
// data.
void read_into_cache(const CudaStream& stream, const void* data, int64_t bytes, uint32_t* sink);

}  // namespace crible::cuda
