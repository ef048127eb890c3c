#include "model/activations.h"

#include "base/units.h"

namespace crible {
namespace {

constexpr int64_t kSliceAlignment = 64;  // bytes

}  // namespace

Activations lay_out(const ModelConfig& c, int64_t tokens, int64_t logit_rows, std::byte* arena) {
  int64_t offset = 0, end = 0;
  const auto slice = [&](int64_t rows, int64_t columns) {
    float* start = reinterpret_cast<float*>(arena + offset);
    offset += round_up(rows * columns * static_cast<int64_t>(sizeof(float)), kSliceAlignment);
    end = std::max(end, offset);
    return start;
  };
  Activations a;
  a.residual = slice(tokens, c.embedding);
  a.normed = slice(tokens, c.embedding);
  a.head_input = slice(logit_rows, c.embedding);
  const int64_t shared = offset;
  a.qkv = slice(tokens, c.qkv_size());
  a.attention = slice(tokens, c.query_size());
  offset = shared;
  const int64_t rows = std::min(tokens, kFeedForwardRows);
  a.gate_up = slice(rows, 2 * c.feed_forward);
  a.gated = slice(rows, c.feed_forward);
  offset = shared;
  a.router_logits = slice(tokens, c.experts);
  a.expert_weights = slice(tokens, c.experts_per_token);
  a.chosen_experts = reinterpret_cast<int32_t*>(slice(tokens, c.experts_per_token));
  a.bytes = end;
  return a;
}

}  // namespace crible
