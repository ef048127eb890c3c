// One layer's feed-forward as a mixture of experts: norm, router, and the chosen experts' gated
// feed-forward, weighted, into the residual stream. Immutable once loaded.
#pragma once

#include <cstdint>

#include "model/activations.h"
#include "model/decoder_traits.h"
#include "model/norm.h"
#include "ops/matmul/matmul.h"

namespace crible {

class ExpertBlock {
 public:
  static Result<ExpertBlock> load(Checkpoint& checkpoint, const DecoderDescription& decoder, int64_t layer,
                                  Stream& stream);

  int64_t bytes() const;
  int64_t scratch_bytes(int64_t max_tokens, const ModelConfig& config) const;
  // a.residual += experts(a.residual) for all tokens.
  void forward(Stream& stream, int64_t tokens, const ModelConfig& config, const Activations& a) const;

 private:
  explicit ExpertBlock(Norm norm) : norm_(std::move(norm)) {}

  Norm norm_;
  PackedMatrix router_;   // [experts, embedding]
  PackedMatrix gate_up_;  // of all experts; gate alone where up is of another type (ops/moe)
  PackedMatrix up_;
  bool apart_ = false;    // gate and up
  PackedMatrix down_;
};

}  // namespace crible
