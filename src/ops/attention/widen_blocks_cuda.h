// Copies the listed blocks of an FP8 cache, one after the other, into a BF16 cache: what a kernel that reads
// BF16 alone needs of it. Moves 3 bytes per element.
#pragma once

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/attention/flashinfer_call.h"

namespace crible::cuda {

// out: [count][K, V][kv_heads][block_size][head_size], values times their scales. listed: device, [count].
void widen_blocks(const CudaStream& stream, const AttentionShape& shape, const KvCache& cache,
                  const int32_t* listed, int64_t count, __nv_bfloat16* out);

}  // namespace crible::cuda
