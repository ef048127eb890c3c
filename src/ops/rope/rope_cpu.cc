#include <cmath>

#include "base/check.h"
#include "ops/rope/rope.h"
#include "ops/rope/rope_kernels.h"
#include "ops/row_chunks.h"

namespace crible {

RopeTable make_rope_table(const std::vector<double>& inverse_frequencies, int64_t max_positions,
                          double attention_factor) {
  RopeTable table;
  const int64_t half = static_cast<int64_t>(inverse_frequencies.size());
  table.rotary_size = 2 * half;
  table.max_positions = max_positions;
  table.cosine.resize(static_cast<size_t>(max_positions * half));
  table.sine.resize(static_cast<size_t>(max_positions * half));
  for (int64_t p = 0; p < max_positions; ++p) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p) * inverse_frequencies[static_cast<size_t>(i)];
      table.cosine[static_cast<size_t>(p * half + i)] = static_cast<float>(std::cos(angle) * attention_factor);
      table.sine[static_cast<size_t>(p * half + i)] = static_cast<float>(std::sin(angle) * attention_factor);
    }
  }
  return table;
}

void rope_tokens_scalar(const RopeHeads& h, int64_t begin, int64_t end) {
  const int64_t half = h.rotary_size / 2;
  const int64_t step = h.interleaved ? 2 : 1;      // from one pair to the next
  const int64_t distance = h.interleaved ? 1 : half;  // between the two of a pair
  for (int64_t t = begin; t < end; ++t) {
    const float* cosine = h.cosine + h.positions[t] * half;
    const float* sine = h.sine + h.positions[t] * half;
    for (int64_t head = 0; head < h.heads; ++head) {
      float* x = h.x + t * h.stride + head * h.head_size;
      for (int64_t i = 0; i < half; ++i) {
        const float a = x[i * step];
        const float b = x[i * step + distance];
        x[i * step] = a * cosine[i] - b * sine[i];
        x[i * step + distance] = b * cosine[i] + a * sine[i];
      }
    }
  }
}

void rope(Stream& stream, const BatchView& batch, const RopeArgs& args) {
  const RopeTable& table = *args.table;
  CHECK(table.rotary_size <= args.head_size, "rotary size {} exceeds head size {}", table.rotary_size,
        args.head_size);
  for (int64_t t = 0; t < batch.num_tokens; ++t) {
    CHECK(batch.positions[t] >= 0 && batch.positions[t] < table.max_positions,
          "position {} is outside a rope table of {}", batch.positions[t], table.max_positions);
  }
  auto* kernel = &rope_tokens_scalar;
#if defined(__x86_64__)
  if (stream.isa() >= CpuIsa::kAvx2) kernel = &rope_tokens_avx2;
#endif
  const RopeHeads q = {args.q, args.q_stride, args.heads, args.head_size, table.rotary_size, batch.positions,
                       table.cosine.data(), table.sine.data(), args.pairing == RopePairing::kInterleaved};
  RopeHeads k = q;
  k.x = args.k;
  k.stride = args.k_stride;
  k.heads = args.kv_heads;
  for_row_chunks(stream, batch.num_tokens, (args.heads + args.kv_heads) * table.rotary_size,
                 [&](int64_t begin, int64_t end) {
                   kernel(q, begin, end);
                   kernel(k, begin, end);
                 });
}

}  // namespace crible
