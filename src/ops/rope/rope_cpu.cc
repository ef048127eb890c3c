#include <array>
#include <cmath>

#include "base/check.h"
#include "base/units.h"
#include "ops/rope/rope.h"
#include "ops/rope/rope_kernels.h"
#include "ops/row_chunks.h"

namespace crible {
namespace {

constexpr int64_t kMaxRotarySize = 1024;

// Cosines and sines of positions 0, step, 2 · step, ..., times factor.
std::vector<double> turns(const std::vector<double>& frequencies, int64_t count, int64_t step, double factor) {
  std::vector<double> table;
  table.reserve(static_cast<size_t>(count) * 2 * frequencies.size());
  for (int64_t p = 0; p < count; ++p) {
    const auto position = static_cast<double>(p * step);
    for (const double f : frequencies) table.push_back(std::cos(position * f) * factor);
    for (const double f : frequencies) table.push_back(std::sin(position * f) * factor);
  }
  return table;
}

}  // namespace

RopeTable make_rope_table(const std::vector<double>& inverse_frequencies, int64_t max_positions,
                          double attention_factor) {
  RopeTable table;
  table.rotary_size = 2 * static_cast<int64_t>(inverse_frequencies.size());
  table.max_positions = max_positions;
  table.fine = turns(inverse_frequencies, RopeTable::kFinePositions, 1, 1.0);
  table.coarse = turns(inverse_frequencies, ceil_div(max_positions, RopeTable::kFinePositions),
                       RopeTable::kFinePositions, attention_factor);
  return table;
}

void RopeTable::row(int64_t position, float* cosine, float* sine) const {
  const int64_t half = rotary_size / 2;
  const double* a = coarse.data() + position / kFinePositions * rotary_size;
  const double* b = fine.data() + position % kFinePositions * rotary_size;
  for (int64_t i = 0; i < half; ++i) {
    cosine[i] = static_cast<float>(a[i] * b[i] - a[half + i] * b[half + i]);
    sine[i] = static_cast<float>(a[half + i] * b[i] + a[i] * b[half + i]);
  }
}

void rope_token_scalar(const RopeHeads& h, float* x, const float* cosine, const float* sine) {
  const int64_t half = h.rotary_size / 2;
  const int64_t step = h.interleaved ? 2 : 1;         // from one pair to the next
  const int64_t distance = h.interleaved ? 1 : half;  // between the two of a pair
  for (int64_t head = 0; head < h.heads; ++head, x += h.head_size) {
    for (int64_t i = 0; i < half; ++i) {
      const float a = x[i * step];
      const float b = x[i * step + distance];
      x[i * step] = a * cosine[i] - b * sine[i];
      x[i * step + distance] = b * cosine[i] + a * sine[i];
    }
  }
}

void rope(Stream& stream, const BatchView& batch, const RopeArgs& args) {
  const RopeTable& table = *args.table;
  CHECK(table.rotary_size <= args.head_size && table.rotary_size <= kMaxRotarySize,
        "rotary size {} exceeds head size {} or {}", table.rotary_size, args.head_size, kMaxRotarySize);
  for (int64_t t = 0; t < batch.num_tokens; ++t) {
    CHECK(batch.positions[t] >= 0 && batch.positions[t] < table.max_positions,
          "position {} is outside a rope table of {}", batch.positions[t], table.max_positions);
  }
  auto* kernel = &rope_token_scalar;
#if defined(__x86_64__)
  if (stream.isa() >= CpuIsa::kAvx2) kernel = &rope_token_avx2;
#endif
  const RopeHeads q = {args.heads, args.head_size, table.rotary_size, args.pairing == RopePairing::kInterleaved};
  RopeHeads k = q;
  k.heads = args.kv_heads;
  for_row_chunks(stream, batch.num_tokens, (args.heads + args.kv_heads) * table.rotary_size,
                 [&](int64_t begin, int64_t end) {
                   std::array<float, kMaxRotarySize / 2> cosine, sine;
                   for (int64_t t = begin; t < end; ++t) {
                     table.row(batch.positions[t], cosine.data(), sine.data());
                     kernel(q, args.q + t * args.q_stride, cosine.data(), sine.data());
                     kernel(k, args.k + t * args.k_stride, cosine.data(), sine.data());
                   }
                 });
}

}  // namespace crible
