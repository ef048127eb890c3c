#include "model/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "model/config_reader.h"

namespace crible {
namespace {

// Far above any real model, low enough that products of a few of them fit 64 bits.
constexpr int64_t kMaxDimension = 1 << 20;
constexpr int64_t kMaxLayers = 1 << 10;
constexpr int64_t kMaxHeadSize = 1 << 10;
constexpr int64_t kMaxExperts = 1 << 12;

constexpr auto kKnownKeys = std::to_array<std::string_view>({
    "attention.causal", "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.layer_norm_rms_epsilon", "attention.scale", "attention.sliding_window",
    "attention.sliding_window_pattern", "attention.value_length", "attn_logit_softcapping", "block_count",
    "context_length", "embedding_length", "expert_count", "expert_feed_forward_length", "expert_gating_func",
    "expert_shared_count", "expert_used_count", "expert_weights_norm", "expert_weights_scale", "feed_forward_length",
    "final_logit_softcapping", "vocab_size",
});

Status read_heads(const ConfigReader& keys, ModelConfig& config) {
  CRIBLE_TRY(config.heads, keys.integer("attention.head_count", 1, kMaxDimension));
  CRIBLE_TRY(config.kv_heads, keys.integer_or("attention.head_count_kv", config.heads, 1, kMaxDimension));
  if (config.heads % config.kv_heads != 0) {
    return fail(ErrorCode::kCorrupt, "{}: {} query heads cannot share {} key-value heads evenly", keys.path(),
                config.heads, config.kv_heads);
  }
  if (!keys.has("attention.key_length") && config.embedding % config.heads != 0) {
    return fail(ErrorCode::kCorrupt, "{}: an embedding of {} does not divide into {} heads", keys.path(),
                config.embedding, config.heads);
  }
  CRIBLE_TRY(config.head_size,
             keys.integer_or("attention.key_length", config.embedding / config.heads, 1, kMaxHeadSize));
  CRIBLE_TRY(const int64_t value_size, keys.integer_or("attention.value_length", config.head_size, 1, kMaxHeadSize));
  if (value_size != config.head_size) {
    return fail(ErrorCode::kUnsupported, "{}: values of {} elements beside keys of {} are not supported", keys.path(),
                value_size, config.head_size);
  }
  return {};
}

// Which layers have a window: stated layer by layer, or as a period, or every layer of a file that
// states a window alone.
Status read_window(const ConfigReader& keys, const ConfigDefaults& defaults, ModelConfig& config) {
  config.windowed.assign(static_cast<size_t>(config.layers), false);
  CRIBLE_TRY(config.window, keys.integer_or("attention.sliding_window", 0, 0, INT32_MAX));
  if (config.window == 0) return {};
  if (keys.has_list("attention.sliding_window_pattern")) {
    CRIBLE_TRY(config.windowed, keys.booleans("attention.sliding_window_pattern", config.layers));
    return {};
  }
  CRIBLE_TRY(const int64_t period,
             keys.integer_or("attention.sliding_window_pattern", defaults.window_period, 1, kMaxLayers));
  for (int64_t i = 0; i < config.layers; ++i) {
    config.windowed[static_cast<size_t>(i)] = period == 1 || (i + 1) % period != 0;
  }
  return {};
}

Status read_attention(const ConfigReader& keys, const ConfigDefaults& defaults, ModelConfig& config) {
  CRIBLE_TRY(const bool causal, keys.boolean_or("attention.causal", true));
  if (!causal) {
    return fail(ErrorCode::kUnsupported, "{}: {} is false; this build computes decoders only", keys.path(),
                keys.spelling("attention.causal"));
  }
  CRIBLE_TRY(config.attention_scale,
             keys.positive_or("attention.scale", 1 / std::sqrt(static_cast<double>(config.head_size))));
  CRIBLE_TRY(config.attention_softcap, keys.positive_or("attn_logit_softcapping", 0));
  CRIBLE_TRY(config.logit_softcap, keys.positive_or("final_logit_softcapping", 0));
  return read_window(keys, defaults, config);
}

Status read_experts(const ConfigReader& keys, ModelConfig& config) {
  CRIBLE_TRY(config.experts, keys.integer_or("expert_count", 0, 0, kMaxExperts));
  if (config.experts == 0) return {};
  CRIBLE_TRY(config.experts_per_token, keys.integer("expert_used_count", 1, config.experts));
  CRIBLE_TRY(config.expert_feed_forward, keys.integer("expert_feed_forward_length", 1, kMaxDimension));
  CRIBLE_TRY(config.normalise_experts, keys.boolean_or("expert_weights_norm", true));
  // Shared experts, other gates than softmax (1) and scaled weights belong to other architectures.
  CRIBLE_RETURN_IF_ERROR(keys.require("expert_shared_count", 0));
  CRIBLE_RETURN_IF_ERROR(keys.require("expert_gating_func", 1));
  return keys.require("expert_weights_scale", 1);
}

}  // namespace

Result<ModelConfig> read_model_config(const Checkpoint& checkpoint, const ConfigDefaults& defaults) {
  const ConfigReader keys(checkpoint.config());
  CRIBLE_RETURN_IF_ERROR(keys.check_all_known(kKnownKeys, rope_config_keys()));
  ModelConfig config;
  config.architecture = checkpoint.config().architecture();
  CRIBLE_TRY(config.context_length, keys.integer("context_length", 1, INT32_MAX));
  CRIBLE_TRY(config.layers, keys.integer("block_count", 1, kMaxLayers));
  CRIBLE_TRY(config.embedding, keys.integer("embedding_length", 1, kMaxDimension));
  CRIBLE_TRY(config.rms_epsilon, keys.positive("attention.layer_norm_rms_epsilon"));
  CRIBLE_RETURN_IF_ERROR(read_heads(keys, config));
  CRIBLE_RETURN_IF_ERROR(read_attention(keys, defaults, config));
  CRIBLE_RETURN_IF_ERROR(read_experts(keys, config));
  // A mixture may have no dense layer at all.
  CRIBLE_TRY(config.feed_forward, config.experts > 0
                                      ? keys.integer_or("feed_forward_length", 0, 0, kMaxDimension)
                                      : keys.integer("feed_forward_length", 1, kMaxDimension));
  CRIBLE_TRY(config.rotary_size, read_rotary_size(keys, config.head_size));
  CRIBLE_TRY(config.rope, read_rope_config(keys, defaults.rope_base, config.context_length));
  CRIBLE_TRY(config.window_rope, read_window_rope_config(keys, defaults.window_rope_base));

  CRIBLE_TRY(config.vocabulary, checkpoint.rows("token_embd.weight"));
  CRIBLE_TRY(const int64_t stated, keys.integer_or("vocab_size", config.vocabulary, 1, INT32_MAX));
  if (stated != config.vocabulary) {
    return fail(ErrorCode::kCorrupt, "{}: {} is {} but token_embd.weight has {} rows", keys.path(),
                keys.spelling("vocab_size"), stated, config.vocabulary);
  }
  return config;
}

}  // namespace crible
