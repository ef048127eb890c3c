#include "model/expert_block.h"

#include "ops/moe/moe.h"

namespace crible {
namespace {

constexpr int64_t kPackedRows = 16;  // an expert's matrix begins at a group of packed rows (ops/moe)

}  // namespace

Result<ExpertBlock> ExpertBlock::load(Checkpoint& checkpoint, const DecoderDescription& decoder, int64_t layer,
                                      Stream& stream) {
  const ModelConfig& c = decoder.config;
  const std::string prefix = fmt::format("blk.{}.", layer);
  const auto stack = [&](std::string_view name, int64_t rows, int64_t columns) {
    return checkpoint.experts(fmt::format("{}{}.weight", prefix, name), c.experts, rows, columns);
  };
  CRIBLE_TRY(Norm norm, Norm::load(checkpoint, prefix + "ffn_norm.weight", c.embedding, c.rms_epsilon));
  ExpertBlock block(std::move(norm));
  CRIBLE_TRY(const MatrixSource router, checkpoint.matrix(prefix + "ffn_gate_inp.weight", c.experts, c.embedding));
  CRIBLE_TRY(block.router_, PackedMatrix::pack({&router, 1}, stream));

  CRIBLE_TRY(const std::vector<MatrixSource> gate, stack("ffn_gate_exps", c.expert_feed_forward, c.embedding));
  CRIBLE_TRY(const std::vector<MatrixSource> up, stack("ffn_up_exps", c.expert_feed_forward, c.embedding));
  block.apart_ = gate[0].dtype != up[0].dtype;
  const int64_t rows = block.apart_ ? c.expert_feed_forward : 2 * c.expert_feed_forward;
  if (rows % kPackedRows != 0 || c.embedding % kPackedRows != 0) {
    return fail(ErrorCode::kUnsupported, "{}: experts of {} rows in a stream of {} are not supported; both must be "
                "multiples of {}", checkpoint.path(), rows, c.embedding, kPackedRows);
  }
  if (block.apart_) {
    CRIBLE_TRY(block.gate_up_, PackedMatrix::pack(gate, stream));
    CRIBLE_TRY(block.up_, PackedMatrix::pack(up, stream));
  } else {
    std::vector<MatrixSource> pairs;
    for (size_t i = 0; i < gate.size(); ++i) pairs.insert(pairs.end(), {gate[i], up[i]});
    CRIBLE_TRY(block.gate_up_, PackedMatrix::pack(pairs, stream));
  }
  CRIBLE_TRY(const std::vector<MatrixSource> down, stack("ffn_down_exps", c.embedding, c.expert_feed_forward));
  CRIBLE_TRY(block.down_, PackedMatrix::pack(down, stream));
  return block;
}

int64_t ExpertBlock::bytes() const {
  return norm_.bytes() + router_.bytes() + gate_up_.bytes() + up_.bytes() + down_.bytes();
}

int64_t ExpertBlock::scratch_bytes(int64_t max_tokens, const ModelConfig& c) const {
  return std::max(matmul_scratch_bytes(max_tokens, router_),
                  experts_scratch_bytes(max_tokens, c.experts, c.experts_per_token, c.embedding,
                                        c.expert_feed_forward));
}

void ExpertBlock::forward(Stream& stream, int64_t tokens, const ModelConfig& c, const Activations& a) const {
  norm_.apply(stream, a.residual, tokens, a.normed);
  matmul(stream, {.x = a.normed, .rows = tokens, .x_stride = c.embedding, .weight = &router_, .out = a.router_logits,
                  .out_stride = c.experts});
  route_to_experts(stream, {.logits = a.router_logits, .logits_stride = c.experts, .rows = tokens,
                            .experts = c.experts, .experts_per_token = c.experts_per_token,
                            .normalise = c.normalise_experts, .chosen = a.chosen_experts,
                            .weights = a.expert_weights});
  experts_feed_forward(stream, {.x = a.normed, .rows = tokens, .x_stride = c.embedding, .chosen = a.chosen_experts,
                                .weights = a.expert_weights, .experts = c.experts,
                                .experts_per_token = c.experts_per_token, .gate_up = &gate_up_,
                                .up = apart_ ? &up_ : nullptr, .down = &down_, .out = a.residual,
                                .out_stride = c.embedding, .accumulate = true});
}

}  // namespace crible
