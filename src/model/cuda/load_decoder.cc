#include "model/cuda/load_decoder.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <vector>

#include "device/cuda/cuda_status.h"
#include "model/rope_config.h"
#include "ops/matmul/dequantize.h"

namespace crible::cuda {
namespace {

constexpr int64_t kRowsAtOnce = 512;  // dequantised on the host before they are sent

class WeightUpload {
 public:
  explicit WeightUpload(Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  // The named matrix over rows [first_row, first_row + rows) of the target.
  Status matrix(const std::string& name, const DeviceMatrix& target, int64_t first_row, int64_t rows) {
    CRIBLE_TRY(const MatrixSource source, checkpoint_.matrix(name, rows, target.columns));
    const int64_t row_bytes = dtype_row_bytes(source.dtype, source.columns);
    if (source.dtype == DType::kBF16 && target.type == WeightType::kBf16) {
      return status_of(cudaMemcpy(static_cast<__nv_bfloat16*>(target.data) + first_row * target.columns,
                                  source.data, static_cast<size_t>(rows * row_bytes), cudaMemcpyHostToDevice),
                       name);
    }
    for (int64_t start = 0; start < rows; start += kRowsAtOnce) {
      const int64_t count = std::min(kRowsAtOnce, rows - start);
      values_.resize(static_cast<size_t>(count * source.columns));
      for (int64_t r = 0; r < count; ++r) {
        dequantize(source.dtype, source.data + (start + r) * row_bytes, source.columns,
                   values_.data() + r * source.columns);
      }
      CRIBLE_RETURN_IF_ERROR(upload_rows(target, first_row + start, values_));
    }
    return {};
  }
  Status vector(const std::string& name, __nv_bfloat16* target, int64_t elements) {
    CRIBLE_TRY(const std::vector<float> values, checkpoint_.vector(name, elements));
    return upload_vector(target, values);
  }

 private:
  Checkpoint& checkpoint_;
  std::vector<float> values_;
};

Status upload_layer(WeightUpload& upload, const DecoderShape& s, const DecoderLayer& layer,
                    const std::string& prefix) {
  CRIBLE_RETURN_IF_ERROR(upload.vector(prefix + "attn_norm.weight", layer.attention_norm, s.embedding));
  struct Part {
    const char* name;
    int64_t first, rows;
  };
  for (const Part& part : {Part{"attn_q", 0, s.query_size()},
                           {"attn_k", s.query_size(), s.kv_size()},
                           {"attn_v", s.query_size() + s.kv_size(), s.kv_size()}}) {
    CRIBLE_RETURN_IF_ERROR(upload.matrix(prefix + part.name + ".weight", layer.qkv, part.first, part.rows));
    if (s.qkv_bias) {
      CRIBLE_RETURN_IF_ERROR(
          upload.vector(prefix + part.name + ".bias", layer.qkv_bias + part.first, part.rows));
    }
  }
  if (s.qk_norm) {
    CRIBLE_RETURN_IF_ERROR(upload.vector(prefix + "attn_q_norm.weight", layer.q_norm, s.head_size));
    CRIBLE_RETURN_IF_ERROR(upload.vector(prefix + "attn_k_norm.weight", layer.k_norm, s.head_size));
  }
  CRIBLE_RETURN_IF_ERROR(upload.matrix(prefix + "attn_output.weight", layer.output, 0, s.embedding));
  CRIBLE_RETURN_IF_ERROR(upload.vector(prefix + "ffn_norm.weight", layer.feed_forward_norm, s.embedding));
  CRIBLE_RETURN_IF_ERROR(upload.matrix(prefix + "ffn_gate.weight", layer.gate_up, 0, s.feed_forward));
  CRIBLE_RETURN_IF_ERROR(
      upload.matrix(prefix + "ffn_up.weight", layer.gate_up, s.feed_forward, s.feed_forward));
  return upload.matrix(prefix + "ffn_down.weight", layer.down, 0, s.embedding);
}

}  // namespace

Result<DecoderShape> decoder_shape(const Checkpoint& checkpoint, const DecoderDescription& description) {
  const ModelConfig& c = description.config;
  const auto refuse = [&](std::string_view what) {
    return fail(ErrorCode::kUnsupported, "{}: the GPU decoder does not compute {}", checkpoint.path(), what);
  };
  if (c.experts > 0) return refuse("mixtures of experts");
  if (std::find(c.windowed.begin(), c.windowed.end(), true) != c.windowed.end())
    return refuse("sliding windows");
  if (c.attention_softcap > 0 || c.logit_softcap > 0) return refuse("soft caps");
  if (description.traits.residual_norms) return refuse("norms of what a block adds");
  if (description.traits.activation != GatedActivation::kSilu) return refuse("activations other than SiLU");
  if (description.traits.embedding_scale != 1) return refuse("scaled embeddings");
  if (c.rotary_size != c.head_size) return refuse("partly rotated heads");
  if (c.head_size != 64 && c.head_size != 128) {
    return refuse(fmt::format("heads of {} elements (64 and 128 only)", c.head_size));
  }
  return DecoderShape{.layers = c.layers,
                      .embedding = c.embedding,
                      .feed_forward = c.feed_forward,
                      .heads = c.heads,
                      .kv_heads = c.kv_heads,
                      .head_size = c.head_size,
                      .vocabulary = c.vocabulary,
                      .context_length = c.context_length,
                      .qk_norm = description.traits.query_key_norm,
                      .qkv_bias = checkpoint.has("blk.0.attn_q.bias"),
                      .tied = !checkpoint.has("output.weight"),
                      .epsilon = static_cast<float>(c.rms_epsilon),
                      .attention_scale = c.attention_scale,
                      .rope_base = c.rope.base,
                      .pairing = checkpoint.rope_pairing()};
}

Result<LoadedDecoder> load_decoder_weights(Checkpoint& checkpoint, const DecoderDescription& description,
                                           WeightType type) {
  CRIBLE_TRY(const DecoderShape shape, decoder_shape(checkpoint, description));
  CRIBLE_TRY(DecoderWeights weights, DecoderWeights::allocate(shape, type));
  WeightUpload upload(checkpoint);
  CRIBLE_RETURN_IF_ERROR(upload.matrix("token_embd.weight", weights.embedding(), 0, shape.vocabulary));
  if (!shape.tied)
    CRIBLE_RETURN_IF_ERROR(upload.matrix("output.weight", weights.head(), 0, shape.vocabulary));
  CRIBLE_RETURN_IF_ERROR(upload.vector("output_norm.weight", weights.output_norm(), shape.embedding));
  for (size_t i = 0; i < weights.layers().size(); ++i) {
    CRIBLE_RETURN_IF_ERROR(upload_layer(upload, shape, weights.layers()[i], fmt::format("blk.{}.", i)));
    checkpoint.release();
  }
  CRIBLE_TRY(const std::vector<float> factors, load_rope_factors(checkpoint, shape.head_size));
  RopeTable rope = make_rope_table(description.config.rope, shape.head_size, shape.context_length, factors);
  CRIBLE_RETURN_IF_ERROR(checkpoint.check_all_taken());
  return LoadedDecoder{std::move(weights), std::move(rope)};
}

}  // namespace crible::cuda
