// out[t] = table[token_ids[t]] · scale as float32. Reads one row of the table per token. Token ids out of
// range are a broken invariant: the engine refuses them at admission.
#pragma once

#include "device/stream.h"
#include "ops/batch_view.h"
#include "ops/matmul/matmul.h"

namespace crible {

struct EmbedArgs {
  const PackedMatrix* table;  // [vocabulary, columns]
  float* out;                 // [num_tokens, columns]
  int64_t out_stride;
  float scale = 1;
};

void embed(Stream& stream, const BatchView& batch, const EmbedArgs& args);

}  // namespace crible
