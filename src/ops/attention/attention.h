// Paged causal attention with grouped queries: for every query token, softmax(q·Kᵀ·scale)·V over
// positions up to its own, or the last `window` of them. One kernel serves decode, prefill chunks and
// mixed batches. Keys are visited in tiles aligned to absolute position with an online softmax, so a
// row's result does not depend on chunking, on its companions or on the thread count, bit for bit.
// Reads 2·head_size·kv_heads·visible elements per sequence; computes 4·head_size·heads operations
// per (query, key) pair.
#pragma once

#include "device/dtype.h"
#include "device/stream.h"
#include "ops/batch_view.h"

namespace crible {

// One layer's cache. V: [num_blocks, kv_heads, block_size, head_size]. K is transposed within a block,
// [num_blocks, kv_heads, head_size, block_size], so that one load brings one element of many keys.
// On the CPU block_size and head_size are multiples of 8. A block may be copied or moved as a whole.
// kI8: after the block_size · head_size integers of each head of a block come block_size float scales, one
// per token; an element is its integer · its token's scale, largest magnitude / 127.
struct KvCacheView {
  void* k;
  void* v;
  DType dtype;  // kF32, kF16, kBF16 or kI8 (CPU)
  int64_t num_blocks;
  int64_t block_size;
  int64_t kv_heads;
  int64_t head_size;
};
int64_t kv_head_bytes(DType dtype, int64_t block_size, int64_t head_size);  // a block's keys of one head, or values
int64_t kv_cache_block_bytes(DType dtype, int64_t block_size, int64_t kv_heads, int64_t head_size);  // K + V

struct AttentionArgs {
  const float* q;   // [num_tokens, heads, head_size], row stride q_stride floats
  int64_t q_stride;
  float* out;       // [num_tokens, heads, head_size], row stride out_stride floats
  int64_t out_stride;
  int64_t heads;
  float scale;
  KvCacheView cache;
  // Position p sees (p - window, p]; 0: all of [0, p]. Blocks wholly before the first token's window are
  // not read, nor is the cost more than the window's.
  int64_t window = 0;
  // Scores become cap · tanh(score / cap) (Gemma 2); 0: as they are.
  float logit_softcap = 0.0f;
};

// For batches of up to max_tokens query tokens.
int64_t attention_scratch_bytes(int64_t max_tokens, int64_t heads, int64_t head_size, int threads);
void attention(Stream& stream, const BatchView& batch, const AttentionArgs& args);

}  // namespace crible
