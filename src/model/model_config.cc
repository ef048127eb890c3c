#include "model/model_config.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace crible {
namespace {

// Far above any real model, low enough that products of a few of them fit 64 bits.
constexpr int64_t kMaxDimension = 1 << 20;
constexpr int64_t kMaxLayers = 1 << 10;
constexpr int64_t kMaxHeadSize = 1 << 10;

constexpr auto kKnownKeys = std::to_array<std::string_view>({
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.layer_norm_rms_epsilon",
    "attention.value_length", "block_count", "context_length", "embedding_length", "expert_count",
    "expert_used_count", "feed_forward_length", "rope.dimension_count", "rope.freq_base", "rope.scaling.factor",
    "rope.scaling.finetuned", "rope.scaling.original_context_length", "rope.scaling.type", "vocab_size",
});

// The keys with the ranges that this build takes.
class KeyReader {
 public:
  explicit KeyReader(const ConfigKeys& keys) : keys_(keys) {}

  bool has(std::string_view key) const { return keys_.has(key); }
  Result<std::string> text(std::string_view key) const { return keys_.text(key); }

  Result<int64_t> integer(std::string_view key, int64_t minimum, int64_t maximum) const {
    CRIBLE_TRY(const int64_t value, keys_.integer(key));
    if (value < minimum || value > maximum) {
      return fail(ErrorCode::kUnsupported, "{}: {} is {}; this build takes {} to {}", keys_.path(),
                  keys_.spelling(key), value, minimum, maximum);
    }
    return value;
  }

  Result<int64_t> integer_or(std::string_view key, int64_t absent, int64_t minimum, int64_t maximum) const {
    if (!has(key)) return absent;
    return integer(key, minimum, maximum);
  }

  Result<double> positive(std::string_view key) const {
    CRIBLE_TRY(const double value, keys_.number(key));
    if (!std::isfinite(value) || value <= 0) {
      return fail(ErrorCode::kCorrupt, "{}: {} is {}; it must be a number above 0", keys_.path(), keys_.spelling(key),
                  value);
    }
    return value;
  }

  Status check_all_known() const {
    for (const auto& [key, entry] : keys_.entries()) {
      if (std::find(kKnownKeys.begin(), kKnownKeys.end(), key) == kKnownKeys.end()) {
        return fail(ErrorCode::kUnsupported,
                    "{}: the key {} is not known to this build, so the model cannot be computed as it was made; use a "
                    "model without it",
                    keys_.path(), entry.spelling);
      }
    }
    return {};
  }

 private:
  const ConfigKeys& keys_;
};

Status read_heads(const ConfigKeys& file, const KeyReader& keys, ModelConfig& config) {
  CRIBLE_TRY(config.heads, keys.integer("attention.head_count", 1, kMaxDimension));
  CRIBLE_TRY(config.kv_heads, keys.integer_or("attention.head_count_kv", config.heads, 1, kMaxDimension));
  if (config.heads % config.kv_heads != 0) {
    return fail(ErrorCode::kCorrupt, "{}: {} query heads cannot share {} key-value heads evenly", file.path(),
                config.heads, config.kv_heads);
  }
  if (!keys.has("attention.key_length") && config.embedding % config.heads != 0) {
    return fail(ErrorCode::kCorrupt, "{}: an embedding of {} does not divide into {} heads", file.path(),
                config.embedding, config.heads);
  }
  CRIBLE_TRY(config.head_size,
             keys.integer_or("attention.key_length", config.embedding / config.heads, 1, kMaxHeadSize));
  CRIBLE_TRY(const int64_t value_size, keys.integer_or("attention.value_length", config.head_size, 1, kMaxHeadSize));
  if (value_size != config.head_size) {
    return fail(ErrorCode::kUnsupported, "{}: values of {} elements beside keys of {} are not supported", file.path(),
                value_size, config.head_size);
  }
  return {};
}

Status read_rope(const ConfigKeys& file, const KeyReader& keys, ModelConfig& config) {
  CRIBLE_TRY(config.rotary_size, keys.integer_or("rope.dimension_count", config.head_size, 2, config.head_size));
  if (config.rotary_size % 2 != 0) {
    return fail(ErrorCode::kCorrupt, "{}: rope.dimension_count is {}; it must be even", file.path(),
                config.rotary_size);
  }
  config.rope_base = 10'000;
  if (keys.has("rope.freq_base")) {
    CRIBLE_TRY(config.rope_base, keys.positive("rope.freq_base"));
  }
  if (!keys.has("rope.scaling.type")) return {};
  CRIBLE_TRY(const std::string type, keys.text("rope.scaling.type"));
  if (type == "none") return {};
  if (type != "linear") {
    return fail(ErrorCode::kUnsupported, "{}: RoPE scaling '{}' is not supported; this build knows none and linear, "
                "and per-frequency factors (rope_freqs.weight)", file.path(), type);
  }
  CRIBLE_TRY(config.rope_linear_factor, keys.positive("rope.scaling.factor"));
  return {};
}

}  // namespace

Result<ModelConfig> read_model_config(const Checkpoint& checkpoint) {
  const ConfigKeys& file = checkpoint.config();
  const KeyReader keys(file);
  CRIBLE_RETURN_IF_ERROR(keys.check_all_known());
  ModelConfig config;
  config.architecture = file.architecture();
  CRIBLE_TRY(const int64_t experts, keys.integer_or("expert_count", 0, 0, kMaxDimension));
  if (experts > 0) {
    return fail(ErrorCode::kUnsupported, "{}: a mixture of {} experts is not supported; use a dense model",
                file.path(), experts);
  }
  CRIBLE_TRY(config.context_length, keys.integer("context_length", 1, kMaxDimension));
  CRIBLE_TRY(config.layers, keys.integer("block_count", 1, kMaxLayers));
  CRIBLE_TRY(config.embedding, keys.integer("embedding_length", 1, kMaxDimension));
  CRIBLE_TRY(config.feed_forward, keys.integer("feed_forward_length", 1, kMaxDimension));
  CRIBLE_TRY(config.rms_epsilon, keys.positive("attention.layer_norm_rms_epsilon"));
  CRIBLE_RETURN_IF_ERROR(read_heads(file, keys, config));
  CRIBLE_RETURN_IF_ERROR(read_rope(file, keys, config));

  CRIBLE_TRY(config.vocabulary, checkpoint.rows("token_embd.weight"));
  CRIBLE_TRY(const int64_t stated, keys.integer_or("vocab_size", config.vocabulary, 1, INT32_MAX));
  if (stated != config.vocabulary) {
    return fail(ErrorCode::kCorrupt, "{}: {} is {} but token_embd.weight has {} rows", file.path(),
                file.spelling("vocab_size"), stated, config.vocabulary);
  }
  return config;
}

}  // namespace crible
