// For tests: a model whose logits are a hash of every (token, position) it reads back from the cache
// through the block table. Any block that is lost, shared wrongly, overwritten or read out of order
// changes the tokens that follow, and the right ones follow from the tokens alone (hash_logits).
#pragma once

#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "base/check.h"
#include "model/model.h"

namespace crible {

inline constexpr int64_t kHashVocabulary = 97;
inline constexpr int64_t kHashContext = 160;
// A context that holds this token has logits that are not numbers.
inline constexpr TokenId kHashFault = 96;

class HashState {
 public:
  void add(int64_t token, int64_t position) {
    if (token == kHashFault) fault_ = true;
    hash_ ^= static_cast<uint64_t>(token * 4099 + position + 1);
    hash_ *= 0x9e3779b97f4a7c15u;
    hash_ ^= hash_ >> 29;
  }
  // Never prefers the fault token.
  void logits(float* out) const {
    for (int64_t v = 0; v < kHashVocabulary; ++v) {
      HashState next = *this;
      next.add(v, -7);
      out[v] = static_cast<float>(next.hash_ >> 48) * 1e-4f;
    }
    out[kHashFault] = fault_ ? std::numeric_limits<float>::quiet_NaN() : -100.0f;
  }

 private:
  uint64_t hash_ = 0x51ed270b;
  bool fault_ = false;
};

// What the model must say after these tokens.
inline std::vector<float> hash_logits(std::span<const TokenId> tokens) {
  HashState state;
  for (size_t p = 0; p < tokens.size(); ++p) state.add(tokens[p], static_cast<int64_t>(p));
  std::vector<float> logits(kHashVocabulary);
  state.logits(logits.data());
  return logits;
}

class HashModel final : public Model {
 public:
  explicit HashModel(std::string path = "hash") {
    info_ = {.architecture = "hash", .quantization = "none", .path = std::move(path), .parameters = 0,
             .context_length = kHashContext, .vocabulary = kHashVocabulary, .layers = 2};
  }
  const ModelInfo& info() const override { return info_; }
  KvShape kv_shape() const override { return {.layers = 2, .kv_heads = 1, .head_size = 1}; }
  int64_t weight_bytes() const override { return 1024; }
  int64_t arena_bytes(const StepLimits& limits) const override { return 64 * limits.max_tokens; }
  int64_t scratch_bytes(const StepLimits&, int) const override { return 64; }

  void forward(Stream&, const BatchView& batch, const ForwardBuffers& buffers) const override {
    CHECK(static_cast<int64_t>(buffers.arena.size()) >= 64 * batch.num_tokens, "the arena is too small");
    for (const KvCacheView& layer : buffers.cache) {
      for (int64_t t = 0; t < batch.num_tokens; ++t) {
        put(layer, layer.k, batch.slot_mapping[t], batch.token_ids[t]);
        put(layer, layer.v, batch.slot_mapping[t], batch.positions[t]);
      }
    }
    for (int64_t r = 0; r < batch.num_logit_rows; ++r) {
      const int64_t token = batch.logit_rows[r];
      int64_t sequence = 0;
      while (batch.query_start[sequence + 1] <= token) ++sequence;
      HashState state;
      for (int64_t p = 0; p < batch.positions[token] + 1; ++p) {
        const int64_t block = batch.block_table[sequence * batch.block_table_stride + p / batch.block_size];
        const int64_t slot = block * batch.block_size + p % batch.block_size;
        // Both layers must agree; a difference enters the hash as a token that does not exist.
        const int64_t first = get(buffers.cache[0], buffers.cache[0].k, slot);
        const int64_t second = get(buffers.cache[1], buffers.cache[1].k, slot);
        state.add(first == second ? first : -1, get(buffers.cache[1], buffers.cache[1].v, slot));
      }
      state.logits(buffers.logits + r * kHashVocabulary);
    }
  }

 private:
  // Small integers in the cache's own element size.
  static void put(const KvCacheView& layer, void* base, int64_t slot, int64_t value) {
    if (layer.dtype == DType::kF16) {
      static_cast<int16_t*>(base)[slot] = static_cast<int16_t>(value);
    } else {
      static_cast<int32_t*>(base)[slot] = static_cast<int32_t>(value);
    }
  }
  static int64_t get(const KvCacheView& layer, const void* base, int64_t slot) {
    if (layer.dtype == DType::kF16) return static_cast<const int16_t*>(base)[slot];
    return static_cast<const int32_t*>(base)[slot];
  }

  ModelInfo info_;
};

// Bytes of one block of 16 tokens of this model with an f16 cache.
inline constexpr int64_t kHashBlockBytes = 2 * 2 * 16 * 2;

}  // namespace crible
