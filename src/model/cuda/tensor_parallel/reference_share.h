// For tests: one rank of the float64 decoder, with the weights that a plan gives it.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "model/cuda/reference_decoder.h"
#include "model/cuda/tensor_parallel/shard_plan.h"

namespace crible::cuda {

inline ReferenceDecoder share_of(const ReferenceDecoder& whole, const ShardPlan& plan, int64_t rank) {
  const DecoderShape& s = whole.shape;
  const auto append = [&](std::vector<float>& out, const std::vector<float>& matrix, int64_t first_row,
                          int64_t columns, WeightPart part) {
    const Shard shard = plan.shard(part, rank);
    for (int64_t r = first_row + shard.rows.first; r < first_row + shard.rows.end(); ++r) {
      const auto row = matrix.begin() + r * columns;
      out.insert(out.end(), row + shard.columns.first, row + shard.columns.end());
    }
  };
  ReferenceDecoder own = whole;
  own.shape = plan.shape_of(rank);
  own.head.clear();
  append(own.head, s.tied ? whole.embedding : whole.head, 0, s.embedding, WeightPart::kHead);
  const int64_t q = s.query_size();
  const int64_t kv = s.kv_size();
  const int64_t hidden = s.experts > 0 ? s.expert_feed_forward : s.feed_forward;
  for (size_t l = 0; l < whole.layers.size(); ++l) {
    const ReferenceLayer& from = whole.layers[l];
    ReferenceLayer& to = own.layers[l];
    to.qkv.clear(), to.output.clear(), to.gate_up.clear(), to.down.clear(), to.qkv_bias.clear();
    append(to.qkv, from.qkv, 0, s.embedding, WeightPart::kQuery);
    append(to.qkv, from.qkv, q, s.embedding, WeightPart::kKey);
    append(to.qkv, from.qkv, q + kv, s.embedding, WeightPart::kValue);
    append(to.output, from.output, 0, q, WeightPart::kOutput);
    for (int64_t e = 0; e < std::max<int64_t>(s.experts, 1); ++e) {
      append(to.gate_up, from.gate_up, e * 2 * hidden, s.embedding, WeightPart::kGate);
      append(to.gate_up, from.gate_up, e * 2 * hidden + hidden, s.embedding, WeightPart::kUp);
      append(to.down, from.down, e * s.embedding, hidden, WeightPart::kDown);
    }
    if (!s.qkv_bias) continue;
    const std::pair<int64_t, WeightPart> biases[] = {
        {0, WeightPart::kQuery}, {q, WeightPart::kKey}, {q + kv, WeightPart::kValue}};
    for (const auto& [first, part] : biases) {
      const Range rows = plan.shard(part, rank).rows;
      const auto begin = from.qkv_bias.begin() + first;
      to.qkv_bias.insert(to.qkv_bias.end(), begin + rows.first, begin + rows.end());
    }
  }
  return own;
}

}  // namespace crible::cuda
