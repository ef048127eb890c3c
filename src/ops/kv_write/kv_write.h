// Writes this step's keys and values into the paged cache at batch.slot_mapping, converting from
// float32 to the cache's type. Moves 4 + sizeof(cache type) bytes per element.
#pragma once

#include "device/stream.h"
#include "ops/attention/attention.h"

namespace crible {

struct KvWriteArgs {
  const float* k;  // [num_tokens, kv_heads, head_size], row stride in floats
  const float* v;
  int64_t k_stride;
  int64_t v_stride;
  KvCacheView cache;
};

void kv_write(Stream& stream, const BatchView& batch, const KvWriteArgs& args);

}  // namespace crible
