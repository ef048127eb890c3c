#include "model/rope_config.h"

#include <array>
#include <cmath>

#include "ops/rope/rope_frequencies.h"

namespace crible {
namespace {

constexpr auto kKeys = std::to_array<std::string_view>({
    "rope.dimension_count", "rope.freq_base", "rope.freq_base_swa", "rope.scaling.attention_factor",
    "rope.scaling.attn_factor", "rope.scaling.beta_fast", "rope.scaling.beta_slow", "rope.scaling.factor",
    "rope.scaling.finetuned", "rope.scaling.high_freq_factor", "rope.scaling.low_freq_factor", "rope.scaling.mscale",
    "rope.scaling.mscale_all_dim", "rope.scaling.original_context_length", "rope.scaling.truncate",
    "rope.scaling.type", "rope.scaling.yarn_attn_factor", "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow", "rope.scaling.yarn_ext_factor",
});

Status read_llama3(const ConfigReader& keys, RopeConfig& config) {
  config.scaling = RopeScaling::kLlama3;
  CRIBLE_TRY(config.low_frequency_factor, keys.positive("rope.scaling.low_freq_factor"));
  CRIBLE_TRY(config.high_frequency_factor, keys.positive("rope.scaling.high_freq_factor"));
  if (config.high_frequency_factor > config.low_frequency_factor) return {};
  return fail(ErrorCode::kCorrupt, "{}: {} is {}; it must be above {}, which is {}", keys.path(),
              keys.spelling("rope.scaling.high_freq_factor"), config.high_frequency_factor,
              keys.spelling("rope.scaling.low_freq_factor"), config.low_frequency_factor);
}

// Cosine and sine grow with the stretch (Peng et al. 2023, section 3.4). A config.json may state the growth
// itself, or two weights of its logarithm (DeepSeek); GGUF a factor of it.
Result<double> read_attention_factor(const ConfigReader& keys, double stretch) {
  const auto growth = [&](double weight) { return stretch > 1 ? 0.1 * weight * std::log(stretch) + 1 : 1.0; };
  if (keys.has("rope.scaling.attention_factor")) return keys.positive("rope.scaling.attention_factor");
  if (keys.has("rope.scaling.mscale") && keys.has("rope.scaling.mscale_all_dim")) {
    CRIBLE_TRY(const double over, keys.positive("rope.scaling.mscale"));
    CRIBLE_TRY(const double under, keys.positive("rope.scaling.mscale_all_dim"));
    return growth(over) / growth(under);
  }
  CRIBLE_TRY(const double relative, keys.positive_or("rope.scaling.attn_factor", 1));
  CRIBLE_TRY(const double more, keys.positive_or("rope.scaling.yarn_attn_factor", 1));
  return relative * more * growth(1);
}

Status read_yarn(const ConfigReader& keys, RopeConfig& config) {
  config.scaling = RopeScaling::kYarn;
  for (const std::string_view key : {"rope.scaling.beta_fast", "rope.scaling.yarn_beta_fast"}) {
    CRIBLE_TRY(config.beta_fast, keys.positive_or(key, config.beta_fast));
  }
  for (const std::string_view key : {"rope.scaling.beta_slow", "rope.scaling.yarn_beta_slow"}) {
    CRIBLE_TRY(config.beta_slow, keys.positive_or(key, config.beta_slow));
  }
  CRIBLE_TRY(config.truncate, keys.boolean_or("rope.scaling.truncate", config.truncate));
  CRIBLE_RETURN_IF_ERROR(keys.require("rope.scaling.yarn_ext_factor", 1));
  CRIBLE_TRY(config.attention_factor, read_attention_factor(keys, config.factor));
  return {};
}

RopeFrequencies frequencies_of(const RopeConfig& c, int64_t rotary_size) {
  switch (c.scaling) {
    case RopeScaling::kNone: break;
    case RopeScaling::kLinear: return linear_rope_frequencies(rotary_size, c.base, c.factor);
    case RopeScaling::kLlama3:
      return llama3_rope_frequencies(rotary_size, c.base, {.factor = c.factor,
                                                           .low_frequency_factor = c.low_frequency_factor,
                                                           .high_frequency_factor = c.high_frequency_factor,
                                                           .original_context = c.original_context});
    case RopeScaling::kYarn:
      return yarn_rope_frequencies(rotary_size, c.base, {.factor = c.factor, .original_context = c.original_context,
                                                         .beta_fast = c.beta_fast, .beta_slow = c.beta_slow,
                                                         .truncate = c.truncate,
                                                         .attention_factor = c.attention_factor});
  }
  return rope_frequencies(rotary_size, c.base);
}

}  // namespace

std::span<const std::string_view> rope_config_keys() { return kKeys; }

Result<int64_t> read_rotary_size(const ConfigReader& keys, int64_t head_size) {
  CRIBLE_TRY(const int64_t size, keys.integer_or("rope.dimension_count", head_size, 2, head_size));
  if (size % 2 == 0) return size;
  return fail(ErrorCode::kCorrupt, "{}: {} is {}; it must be even", keys.path(), keys.spelling("rope.dimension_count"),
              size);
}

Result<RopeConfig> read_rope_config(const ConfigReader& keys, double default_base, int64_t context_length) {
  RopeConfig config;
  CRIBLE_TRY(config.base, keys.positive_or("rope.freq_base", default_base));
  if (!keys.has("rope.scaling.type")) return config;
  CRIBLE_TRY(const std::string type, keys.text("rope.scaling.type"));
  if (type == "none") return config;
  if (type != "linear" && type != "llama3" && type != "yarn") {
    return fail(ErrorCode::kUnsupported,
                "{}: RoPE scaling '{}' is not supported; this build knows none, linear, llama3 and yarn, and "
                "per-frequency factors (rope_freqs.weight)",
                keys.path(), type);
  }
  CRIBLE_TRY(config.factor, keys.positive("rope.scaling.factor"));
  if (type == "linear") {
    config.scaling = RopeScaling::kLinear;
    return config;
  }
  CRIBLE_TRY(config.original_context, keys.integer_or("rope.scaling.original_context_length", context_length, 1, INT32_MAX));
  CRIBLE_RETURN_IF_ERROR(type == "yarn" ? read_yarn(keys, config) : read_llama3(keys, config));
  return config;
}

Result<std::optional<RopeConfig>> read_window_rope_config(const ConfigReader& keys,
                                                          std::optional<double> default_base) {
  if (!default_base && !keys.has("rope.freq_base_swa")) return std::nullopt;
  RopeConfig config;
  CRIBLE_TRY(config.base, keys.positive_or("rope.freq_base_swa", default_base.value_or(0)));
  return config;
}

RopeTable make_rope_table(const RopeConfig& config, int64_t rotary_size, int64_t max_positions,
                          std::span<const float> factors) {
  RopeFrequencies frequencies = frequencies_of(config, rotary_size);
  for (size_t i = 0; i < factors.size(); ++i) frequencies.inverse[i] /= static_cast<double>(factors[i]);
  return make_rope_table(frequencies.inverse, max_positions, frequencies.attention_factor);
}

Result<std::vector<float>> load_rope_factors(Checkpoint& checkpoint, int64_t rotary_size) {
  constexpr const char* kName = "rope_freqs.weight";
  if (!checkpoint.has(kName)) return std::vector<float>();
  CRIBLE_TRY(std::vector<float> factors, checkpoint.vector(kName, rotary_size / 2));
  for (const float factor : factors) {
    if (std::isfinite(factor) && factor > 0) continue;
    return fail(ErrorCode::kCorrupt, "{}: {} holds {}; frequencies are divided by it, so it must be a number above 0",
                checkpoint.path(), kName, factor);
  }
  return factors;
}

}  // namespace crible
