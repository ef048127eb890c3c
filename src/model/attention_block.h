// One layer's attention: norm, fused query/key/value, the norms of their heads, rotation, cache, paged
// attention, and back to the residual stream. Immutable once loaded.
#pragma once

#include <cstdint>
#include <optional>

#include "model/activations.h"
#include "model/decoder_traits.h"
#include "model/norm.h"
#include "model/residual_projection.h"
#include "model/stacked_matrix.h"
#include "ops/attention/attention.h"
#include "ops/batch_view.h"
#include "ops/rope/rope.h"

namespace crible {

class AttentionBlock {
 public:
  static Result<AttentionBlock> load(Checkpoint& checkpoint, const DecoderDescription& decoder, int64_t layer,
                                     Stream& stream);

  int64_t bytes() const;
  // Without attention's own, which is the same in every layer.
  int64_t scratch_bytes(int64_t max_tokens) const;
  // a.residual += attention(a.residual) for all tokens; their keys and values go into `cache`.
  void forward(Stream& stream, const BatchView& batch, const ModelConfig& config, const RopeTable& rope_table,
               const KvCacheView& cache, const Activations& a) const;

 private:
  AttentionBlock(Norm norm, StackedMatrix qkv, ResidualProjection output)
      : norm_(std::move(norm)), qkv_(std::move(qkv)), output_(std::move(output)) {}

  Norm norm_;
  StackedMatrix qkv_;
  std::optional<Norm> query_norm_;  // of a head
  std::optional<Norm> key_norm_;
  ResidualProjection output_;
  RopePairing pairing_ = RopePairing::kHalves;
  int64_t window_ = 0;
};

}  // namespace crible
