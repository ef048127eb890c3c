#include "ops/embed/embed.h"
#include "ops/row_chunks.h"

namespace crible {

void embed(Stream& stream, const BatchView& batch, const EmbedArgs& args) {
  const PackedMatrix& table = *args.table;
  // Reading a row of the packed table costs about eight plain elements each.
  for_row_chunks(stream, batch.num_tokens, table.columns() * 8, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* out = args.out + t * args.out_stride;
      table.dequantize_row(batch.token_ids[t], out);
      if (args.scale == 1) continue;
      for (int64_t c = 0; c < table.columns(); ++c) out[c] *= args.scale;
    }
  });
}

}  // namespace crible
