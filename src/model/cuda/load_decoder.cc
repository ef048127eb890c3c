#include "model/cuda/load_decoder.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "base/units.h"
#include "device/cuda/device_scope.h"
#include "model/cuda/tensor_parallel/matrix_cut.h"
#include "model/cuda/weight_upload.h"
#include "model/rope_config.h"

namespace crible::cuda {
namespace {

// What of the host's memory the parts of matrices may take that are copied before they are sent.
constexpr int64_t kMostCopiedBytes = 2 * kGiB;

// A matrix of a layer as checkpoints name it.
struct LayerPart {
  const char* name;
  DeviceMatrix DecoderLayer::*matrix;
  WeightPart part;
  int64_t rows, columns;
};
std::vector<LayerPart> layer_parts(const DecoderShape& s) {
  const int64_t q = s.query_size();
  const int64_t kv = s.kv_size();
  return {{"attn_q", &DecoderLayer::qkv, WeightPart::kQuery, q, s.embedding},
          {"attn_k", &DecoderLayer::qkv, WeightPart::kKey, kv, s.embedding},
          {"attn_v", &DecoderLayer::qkv, WeightPart::kValue, kv, s.embedding},
          {"attn_output", &DecoderLayer::output, WeightPart::kOutput, s.embedding, q}};
}
// Of a dense layer's feed-forward block, or of each expert's.
std::vector<LayerPart> feed_forward_parts(const DecoderShape& s) {
  const bool dense = s.experts == 0;
  const int64_t hidden = dense ? s.feed_forward : s.expert_feed_forward;
  return {{dense ? "ffn_gate" : "ffn_gate_exps", &DecoderLayer::gate_up, WeightPart::kGate, hidden, s.embedding},
          {dense ? "ffn_up" : "ffn_up_exps", &DecoderLayer::gate_up, WeightPart::kUp, hidden, s.embedding},
          {dense ? "ffn_down" : "ffn_down_exps", &DecoderLayer::down, WeightPart::kDown, s.embedding, hidden}};
}
std::string tensor_name(int64_t layer, const char* part, const char* ending) {
  return fmt::format("blk.{}.{}.{}", layer, part, ending);
}

// What a checkpoint has of each of a decoder's weights: matrices found but not read, vectors (few and small)
// read.
class FoundWeights {
 public:
  explicit FoundWeights(Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  Status find(const DecoderShape& s) {
    CRIBLE_RETURN_IF_ERROR(matrix("token_embd.weight", s.vocabulary, s.embedding, WeightPart::kEmbedding,
                                  [](const DecoderWeights& w) { return w.embedding(); }));
    if (!s.tied) {
      CRIBLE_RETURN_IF_ERROR(matrix("output.weight", s.vocabulary, s.embedding, WeightPart::kHead,
                                    [](const DecoderWeights& w) { return w.head(); }));
    }
    unquantised_ = matrices_.size();
    CRIBLE_RETURN_IF_ERROR(
        vector("output_norm.weight", s.embedding, [](const DecoderWeights& w) { return w.output_norm(); }));
    for (int64_t i = 0; i < s.layers; ++i) {
      CRIBLE_RETURN_IF_ERROR(layer(s, i));
      CRIBLE_TRY(const KvScales scales, checkpoint_.kv_scales(i));
      kv_scales_.push_back(scales);
    }
    return {};
  }

  // The format that keeps every layer's matrices; BF16 where there is none.
  WeightFormat kept() const {
    const WeightFormat first = kept_format(matrices_[unquantised_].source);
    for (size_t i = unquantised_; i < matrices_.size(); ++i) {
      if (!matrices_[i].router && kept_format(matrices_[i].source) != first) return WeightFormat();
    }
    return first;
  }

  // What the plan gives that rank. All of it is checked before anything is read.
  Status upload(const ShardPlan& plan, int64_t rank, DecoderWeights& weights, int threads) const {
    weights.set_kv_scales(kv_scales_);
    for (const Matrix& m : matrices_) {
      const Shard shard = plan.shard(m.part, rank);
      const std::string name = name_of(m);
      CRIBLE_RETURN_IF_ERROR(check_upload({name, m.source, m.target(weights), first_row(m, plan, rank)}));
      CRIBLE_RETURN_IF_ERROR(check_cut(m.source, shard.rows, shard.columns, name));
    }
    for (const Vector& v : vectors_) {
      const auto count = std::ssize(v.values);
      const Shard shard = v.part ? plan.shard(*v.part, rank) : Shard{.rows = {0, count}, .columns = {}, .target_row = 0};
      const auto values = std::span(v.values).subspan(static_cast<size_t>(shard.rows.first),
                                                      static_cast<size_t>(shard.rows.count));
      CRIBLE_RETURN_IF_ERROR(upload_vector(v.target(weights) + shard.target_row, values));
    }
    return upload_cut(plan, rank, weights, threads);
  }

 private:
  struct Matrix {
    std::string name;
    StoredMatrix source;
    WeightPart part;
    std::function<DeviceMatrix(const DecoderWeights&)> target;
    bool router = false;  // BF16 whatever the others are
    int64_t expert = 0;   // of a stack
  };
  struct Vector {
    std::vector<float> values;
    std::function<__nv_bfloat16*(const DecoderWeights&)> target;
    std::optional<WeightPart> part;  // whose bias it is; none: every rank has all of it
  };

  std::string name_of(const Matrix& m) const { return checkpoint_.path() + ": " + m.name; }
  static int64_t first_row(const Matrix& m, const ShardPlan& plan, int64_t rank) {
    const DecoderShape own = plan.shape_of(rank);
    const int64_t expert_rows = m.part == WeightPart::kDown ? own.embedding : 2 * own.expert_feed_forward;
    return m.expert * expert_rows + plan.shard(m.part, rank).target_row;
  }
  Status upload_cut(const ShardPlan& plan, int64_t rank, const DecoderWeights& weights, int threads) const {
    std::vector<MatrixUpload> uploads;
    std::vector<CutMatrix> cuts;
    int64_t copied_bytes = 0;
    for (const Matrix& m : matrices_) {
      const Shard shard = plan.shard(m.part, rank);
      if (shard.rows.count == 0) continue;  // a share of the head beyond a small vocabulary
      CRIBLE_TRY(CutMatrix cut, cut_matrix(m.source, shard.rows, shard.columns, name_of(m)));
      copied_bytes += cut.copied_bytes;
      uploads.push_back({name_of(m), cut.matrix, m.target(weights), first_row(m, plan, rank)});
      cuts.push_back(std::move(cut));
      if (copied_bytes < kMostCopiedBytes) continue;
      CRIBLE_RETURN_IF_ERROR(upload_matrices(uploads, threads));
      uploads.clear();
      cuts.clear();
      copied_bytes = 0;
    }
    return upload_matrices(uploads, threads);
  }

  template <typename Target>
  Status matrix(std::string name, int64_t rows, int64_t columns, WeightPart part, Target target) {
    CRIBLE_TRY(StoredMatrix source, checkpoint_.stored(name, rows, columns));
    matrices_.push_back({std::move(name), std::move(source), part, std::move(target)});
    return {};
  }
  Status feed_forward(const DecoderShape& s, int64_t index) {
    const auto of_layer = [place = static_cast<size_t>(index)](const DeviceMatrix DecoderLayer::*member) {
      return [=](const DecoderWeights& w) { return w.layers()[place].*member; };
    };
    if (s.experts > 0) {
      CRIBLE_RETURN_IF_ERROR(matrix(tensor_name(index, "ffn_gate_inp", "weight"), s.experts, s.embedding, WeightPart::kRouter,
                                    of_layer(&DecoderLayer::router)));
      matrices_.back().router = true;
    }
    const int64_t count = std::max<int64_t>(s.experts, 1);
    for (const LayerPart& part : feed_forward_parts(s)) {
      const std::string name = tensor_name(index, part.name, "weight");
      if (s.experts == 0) {
        CRIBLE_RETURN_IF_ERROR(matrix(name, part.rows, part.columns, part.part, of_layer(part.matrix)));
        continue;
      }
      CRIBLE_TRY(std::vector<StoredMatrix> stack,
                 checkpoint_.stored_experts(name, count, part.rows, part.columns));
      for (int64_t e = 0; e < count; ++e) {
        matrices_.push_back({fmt::format("{} of expert {}", name, e), std::move(stack[static_cast<size_t>(e)]),
                             part.part, of_layer(part.matrix), /*router=*/false, e});
      }
    }
    return {};
  }
  template <typename Target>
  Status vector(const std::string& name, int64_t elements, Target target,
                std::optional<WeightPart> part = std::nullopt) {
    CRIBLE_TRY(std::vector<float> values, checkpoint_.vector(name, elements));
    vectors_.push_back({std::move(values), std::move(target), part});
    return {};
  }
  Status layer(const DecoderShape& s, int64_t index) {
    const auto place = static_cast<size_t>(index);
    const auto norm = [&](const char* part, __nv_bfloat16* DecoderLayer::*member, int64_t elements) {
      return vector(tensor_name(index, part, "weight"), elements,
                    [=](const DecoderWeights& w) { return w.layers()[place].*member; });
    };
    for (const LayerPart& part : layer_parts(s)) {
      CRIBLE_RETURN_IF_ERROR(
          matrix(tensor_name(index, part.name, "weight"), part.rows, part.columns, part.part,
                 [=, member = part.matrix](const DecoderWeights& w) { return w.layers()[place].*member; }));
      if (!s.qkv_bias || part.matrix != &DecoderLayer::qkv) continue;
      CRIBLE_RETURN_IF_ERROR(vector(tensor_name(index, part.name, "bias"), part.rows,
                                    [=](const DecoderWeights& w) { return w.layers()[place].qkv_bias; },
                                    part.part));
    }
    CRIBLE_RETURN_IF_ERROR(feed_forward(s, index));
    CRIBLE_RETURN_IF_ERROR(norm("attn_norm", &DecoderLayer::attention_norm, s.embedding));
    CRIBLE_RETURN_IF_ERROR(norm("ffn_norm", &DecoderLayer::feed_forward_norm, s.embedding));
    if (!s.qk_norm) return {};
    CRIBLE_RETURN_IF_ERROR(norm("attn_q_norm", &DecoderLayer::q_norm, s.head_size));
    return norm("attn_k_norm", &DecoderLayer::k_norm, s.head_size);
  }

  Checkpoint& checkpoint_;
  std::vector<Matrix> matrices_;
  std::vector<Vector> vectors_;
  std::vector<KvScales> kv_scales_;  // the same for every rank
  size_t unquantised_ = 0;  // matrices at the front that are BF16 whatever the layers' are
};

Result<RopeTable> rope_table(Checkpoint& checkpoint, const DecoderDescription& description,
                             const DecoderShape& shape) {
  CRIBLE_TRY(const std::vector<float> factors, load_rope_factors(checkpoint, shape.head_size));
  return make_rope_table(description.config.rope, shape.head_size, shape.context_length, factors);
}

// Experts know fewer formats: FP8's blocks become rows, 4-bit weights BF16.
WeightFormat nearest_format(const DecoderShape& shape, WeightFormat format) {
  if (shape.experts == 0 || format_fits(shape, format)) return format;
  return format.type == WeightType::kFp8 ? WeightFormat(WeightType::kFp8) : WeightFormat();
}

// On every GPU before anything is read: what does not fit is said at once.
Result<std::vector<DecoderWeights>> allocate_shares(const ShardPlan& plan, WeightFormat format,
                                                    std::span<const int> devices, const AllowWeights& allow) {
  if (plan.ranks() > 1) CRIBLE_RETURN_IF_ERROR(plan.fits(format));
  std::vector<DecoderWeights> ranks;
  for (size_t r = 0; r < devices.size(); ++r) {
    const DeviceScope scope(devices[r]);
    const DecoderShape own = plan.shape_of(static_cast<int64_t>(r));
    CRIBLE_RETURN_IF_ERROR(allow(DecoderWeights::bytes_for(own, format)));
    CRIBLE_TRY(DecoderWeights weights, DecoderWeights::allocate(own, format));
    ranks.push_back(std::move(weights));
  }
  return ranks;
}

}  // namespace

Result<DecoderShape> decoder_shape(const Checkpoint& checkpoint, const DecoderDescription& description) {
  const ModelConfig& c = description.config;
  const auto refuse = [&](std::string_view what) {
    return fail(ErrorCode::kUnsupported, "{}: the GPU decoder does not compute {}", checkpoint.path(), what);
  };
  if (c.experts > 0 && !checkpoint.has("blk.0.ffn_gate_inp.weight")) return refuse("a dense layer among mixtures");
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
                      .feed_forward = c.experts > 0 ? 0 : c.feed_forward,
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
                      .pairing = checkpoint.rope_pairing(),
                      .experts = c.experts,
                      .experts_per_token = c.experts_per_token,
                      .expert_feed_forward = c.expert_feed_forward,
                      .normalise_experts = c.normalise_experts};
}

Result<DecoderShares> load_decoder_shares(Checkpoint& checkpoint, const DecoderDescription& description,
                                          std::optional<WeightFormat> format, std::span<const int> devices,
                                          const AllowWeights& allow, int threads) {
  CRIBLE_TRY(const DecoderShape shape, decoder_shape(checkpoint, description));
  CRIBLE_TRY(const ShardPlan plan, ShardPlan::create(shape, std::ssize(devices)));
  FoundWeights found(checkpoint);
  CRIBLE_RETURN_IF_ERROR(found.find(shape));
  CRIBLE_TRY(RopeTable rope, rope_table(checkpoint, description, shape));
  CRIBLE_RETURN_IF_ERROR(checkpoint.check_all_taken());
  CRIBLE_TRY(std::vector<DecoderWeights> ranks,
             allocate_shares(plan, format.value_or(nearest_format(shape, found.kept())), devices, allow));
  for (size_t r = 0; r < ranks.size(); ++r) {
    const DeviceScope scope(devices[r]);
    CRIBLE_RETURN_IF_ERROR(found.upload(plan, static_cast<int64_t>(r), ranks[r], threads));
  }
  checkpoint.release();
  return DecoderShares{std::move(ranks), std::move(rope)};
}

Result<DecoderShares> dummy_decoder_shares(const Checkpoint& checkpoint, const DecoderDescription& description,
                                           WeightFormat format, std::span<const int> devices,
                                           const AllowWeights& allow) {
  CRIBLE_TRY(const DecoderShape shape, decoder_shape(checkpoint, description));
  CRIBLE_TRY(const ShardPlan plan, ShardPlan::create(shape, std::ssize(devices)));
  CRIBLE_TRY(std::vector<DecoderWeights> ranks, allocate_shares(plan, format, devices, allow));
  for (size_t r = 0; r < ranks.size(); ++r) {
    const DeviceScope scope(devices[r]);
    CRIBLE_TRY(const CudaStream stream, CudaStream::create());
    // The same seed on every rank: what all of them hold must be equal.
    ranks[r].fill_random(stream, 1);
    CRIBLE_RETURN_IF_ERROR(stream.synchronize());
  }
  RopeTable rope = make_rope_table(description.config.rope, shape.head_size, shape.context_length, {});
  return DecoderShares{std::move(ranks), std::move(rope)};
}

Result<LoadedDecoder> load_decoder_weights(Checkpoint& checkpoint, const DecoderDescription& description,
                                           std::optional<WeightFormat> format, int threads) {
  int device = 0;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaGetDevice(&device));
  CRIBLE_TRY(DecoderShares whole,
             load_decoder_shares(checkpoint, description, format, std::span<const int>(&device, 1),
                                 [](int64_t) { return Status(); }, threads));
  return LoadedDecoder{std::move(whole.ranks[0]), std::move(whole.rope)};
}

WeightFormat configured_format(const QuantizationScheme& scheme, const DecoderShape& shape) {
  WeightFormat format;
  if (scheme.method == QuantizationMethod::kFp8)
    format = {WeightType::kFp8, scheme.block_rows > 0 ? static_cast<int>(kFp8Block) : 0};
  if ((scheme.method == QuantizationMethod::kAwq || scheme.method == QuantizationMethod::kGptq) &&
      scheme.bits == 4 && scheme.memory_type != DType::kF16 &&
      (scheme.group_size == -1 || scheme.group_size % 32 == 0)) {
    // One scale for a whole row is kept window by window.
    format = {WeightType::kInt4, scheme.group_size > 0 ? int4_stored_group(scheme.group_size) : 128};
  }
  format = nearest_format(shape, format);
  return format_fits(shape, format) ? format : WeightFormat();
}

}  // namespace crible::cuda
