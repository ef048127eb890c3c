// Attention of single queries over a paged cache in BF16 or FP8, for batches too large for
// decode_attention(): queries are normed and rotated, keys and values in the cache. Reads
// 2·kv_heads·head_size elements per cached token, each once; the rate of reading is its floor.
//
// A warp takes one block of the cache (16 tokens of one KV head) at a time, from memory straight into
// registers in whole lines, and requests the next as soon as the registers are free. The blocks of the grid
// stay on their multiprocessors and take equal stretches of all pages (page_ranges.h), so that contexts of
// any lengths end together; heads that are cut are merged by the last of their blocks, in order of the
// stretches: the same step gives the same bits. The launch depends on nothing but the device: no plan, and
// capturable. Limits: head size 64 or 128; up to 8 query heads per KV head; block size 16.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "ops/attention/flashinfer_call.h"

namespace crible::cuda {

struct BatchedDecodeArgs {
  const __nv_bfloat16* q = nullptr;  // [rows, heads, head_size] with rows of q_stride elements
  int64_t q_stride = 0;
  __nv_bfloat16* out = nullptr;  // [rows, heads · head_size]
  int64_t rows = 0;
  const int32_t* kv_start = nullptr;  // [rows + 1] into kv_blocks; every row has a block
  const int32_t* kv_blocks = nullptr;
  const int32_t* last_block_tokens = nullptr;  // [rows]
  AttentionShape shape;
  KvCache cache;
  // The kernel before this one on the stream writes no block but each row's last: the others are read while
  // it still runs.
  bool settled = false;
  int blocks = 0;  // of the grid: batched_decode_blocks()
  // Of batched_decode_partial_bytes() and batched_decode_counter_bytes(); the counters are zero at first, and
  // again after each run. One launch at a time may use them.
  float* partial = nullptr;
  int32_t* counters = nullptr;
};

bool batched_decode_fits(const AttentionShape& shape);
// As many as this GPU runs at once.
Result<int> batched_decode_blocks(const AttentionShape& shape, KvType type);
int64_t batched_decode_partial_bytes(const AttentionShape& shape);
int64_t batched_decode_counter_bytes();
void batched_decode(const CudaStream& stream, const BatchedDecodeArgs& args);

}  // namespace crible::cuda
