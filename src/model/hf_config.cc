#include "model/hf_config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/atomic_file.h"

namespace crible {
namespace {

using nlohmann::json;

constexpr size_t kMaxConfigBytes = 4 << 20;

struct Rename {
  std::string_view hf;
  std::string_view gguf;
};
constexpr auto kRenames = std::to_array<Rename>({
    {"max_position_embeddings", "context_length"},
    {"hidden_size", "embedding_length"},
    {"num_hidden_layers", "block_count"},
    {"intermediate_size", "feed_forward_length"},
    {"num_attention_heads", "attention.head_count"},
    {"num_key_value_heads", "attention.head_count_kv"},
    {"head_dim", "attention.key_length"},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon"},
    {"vocab_size", "vocab_size"},
    {"num_experts", "expert_count"},
    {"num_local_experts", "expert_count"},  // since transformers 5
    {"num_experts_per_tok", "expert_used_count"},
    {"moe_intermediate_size", "expert_feed_forward_length"},
    {"attn_logit_softcapping", "attn_logit_softcapping"},
    {"final_logit_softcapping", "final_logit_softcapping"},
});
// Of rope_scaling (or rope_parameters), behind "rope.scaling.".
constexpr auto kRopeRenames = std::to_array<Rename>({
    {"factor", "factor"},
    {"original_max_position_embeddings", "original_context_length"},
    {"low_freq_factor", "low_freq_factor"},
    {"high_freq_factor", "high_freq_factor"},
    {"attention_factor", "attention_factor"},
    {"beta_fast", "yarn_beta_fast"},
    {"beta_slow", "yarn_beta_slow"},
    {"mscale", "mscale"},
    {"mscale_all_dim", "mscale_all_dim"},
    {"truncate", "truncate"},
    {"short_factor", "short_factor"},
    {"long_factor", "long_factor"},
});

// Settings that say nothing about the forward pass, or whose meaning the tensors carry themselves
// (biases, experts of a layer).
constexpr auto kWithoutEffect = std::to_array<std::string_view>({
    "architectures", "attention_bias", "attention_dropout", "attn_implementation", "auto_map", "bos_token_id",
    "cache_implementation", "classifier_dropout", "decoder_sparse_step", "dtype", "embd_pdrop", "eos_token_id",
    "hidden_dropout", "initializer_range", "max_window_layers", "mlp_bias", "mlp_only_layers", "model_type",
    "output_router_logits", "pad_token_id", "pretraining_tp", "quantization_config", "resid_pdrop",
    "router_aux_loss_coef", "tie_word_embeddings", "torch_dtype", "transformers_version", "unk_token_id", "use_cache",
    "chunk_size_feed_forward", "id2label", "label2id", "problem_type", "return_dict", "task_specific_params",
    "is_encoder_decoder", "num_beams", "temperature", "top_k", "top_p", "repetition_penalty", "max_length",
});

Result<ConfigValue> to_config_value(const json& value, std::string_view key, const std::string& path) {
  if (value.is_boolean()) return ConfigValue(value.get<bool>());
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return ConfigValue(value.get<double>());
  }
  if (value.is_number_integer()) return ConfigValue(value.get<int64_t>());
  if (value.is_number()) return ConfigValue(value.get<double>());
  if (value.is_string()) return ConfigValue(value.get<std::string>());
  if (value.is_array() && std::all_of(value.begin(), value.end(), [](const json& v) { return v.is_number(); })) {
    return ConfigValue(value.get<std::vector<double>>());
  }
  return fail(ErrorCode::kCorrupt, "{}: {} has the value {}, which is none that this setting takes", path, key,
              value.dump(-1, ' ', false, json::error_handler_t::replace));
}

bool is_off(const json& value) {
  return value.is_null() || value == false || value == 0 || (value.is_structured() && value.empty()) || value == "";
}

class Translator {
 public:
  Translator(const json& object, const std::string& path, HfConfig& config)
      : object_(object), path_(path), config_(config), known_(kWithoutEffect.begin(), kWithoutEffect.end()) {}

  Status translate();

 private:
  const json* find(std::string_view key) {
    known_.insert(std::string(key));
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }
  template <typename... Args>
  tl::unexpected<Error> refuse(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kUnsupported, "{}: {}", path_, fmt::format(format, std::forward<Args>(args)...));
  }
  Status set(std::string_view key, const json& value, const std::string& spelling) {
    CRIBLE_TRY(ConfigValue converted, to_config_value(value, spelling, path_));
    config_.keys.set(std::string(key), std::move(converted), spelling);
    return {};
  }
  Status renamed();
  Status activation();
  Status rope();
  Status rope_of(const json& parameters, const std::string& name, std::string_view base_key);
  Status window();
  Status layers_with_window(int64_t layers);
  Status experts();
  void biases();
  Status check_known() const;

  const json& object_;
  const std::string& path_;
  HfConfig& config_;
  std::set<std::string, std::less<>> known_;
};

Status Translator::renamed() {
  for (const Rename& rename : kRenames) {
    if (const json* value = find(rename.hf)) CRIBLE_RETURN_IF_ERROR(set(rename.gguf, *value, std::string(rename.hf)));
  }
  const HfFamily& family = *config_.family;
  if (family.head_size > 0 && !config_.keys.has("attention.key_length")) {
    config_.keys.set("attention.key_length", int64_t{family.head_size}, "head_dim");
  }
  if (const json* scalar = find("query_pre_attn_scalar")) {
    if (!scalar->is_number() || scalar->get<double>() <= 0) return refuse("query_pre_attn_scalar must be above 0");
    config_.keys.set("attention.scale", 1 / std::sqrt(scalar->get<double>()), "query_pre_attn_scalar");
  }
  return {};
}

Status Translator::activation() {
  for (const std::string_view key : {"hidden_activation", "hidden_act"}) {
    const json* value = find(key);
    if (value == nullptr) continue;
    // Gemma's hidden_act is a leftover that its hidden_activation overrules.
    if (key == "hidden_act" && object_.contains("hidden_activation")) continue;
    if (*value != std::string(config_.family->activation)) {
      return refuse("{} {} is not supported for {}; {} is", key, value->dump(), config_.family->model_type,
                    config_.family->activation);
    }
  }
  return {};
}

// One set of RoPE settings: {"rope_type": ..., "rope_theta": ..., "factor": ...}.
Status Translator::rope_of(const json& parameters, const std::string& name, std::string_view base_key) {
  if (!parameters.is_object()) return refuse("{} must be an object", name);
  std::string type = "default";
  for (const auto& [key, value] : parameters.items()) {
    const std::string spelling = name + "." + key;
    const auto rename = std::find_if(kRopeRenames.begin(), kRopeRenames.end(),
                                     [&](const Rename& r) { return r.hf == std::string_view(key); });
    if (value.is_null()) continue;
    if (key == "rope_type" || key == "type") {
      if (!value.is_string()) return refuse("{} must be a string", spelling);
      type = value.get<std::string>();
    } else if (key == "rope_theta") {
      CRIBLE_RETURN_IF_ERROR(set(base_key, value, spelling));
    } else if (key == "partial_rotary_factor" && value.is_number() && value.get<double>() == 1) {
      continue;
    } else if (rename != kRopeRenames.end() && base_key == "rope.freq_base") {
      CRIBLE_RETURN_IF_ERROR(set("rope.scaling." + std::string(rename->gguf), value, spelling));
    } else {
      return refuse("the setting {} is not known to this build, so the model cannot be computed as it was made",
                    spelling);
    }
  }
  if (type == "default") return {};
  if (base_key != "rope.freq_base") return refuse("{}: RoPE scaling '{}' of layers with a window", name, type);
  config_.keys.set("rope.scaling.type", type, name + ".rope_type");
  return {};
}

// Before transformers 5: rope_theta, rope_scaling, rope_local_base_freq. Since then: rope_parameters,
// per kind of layer where there are two.
Status Translator::rope() {
  if (const json* theta = find("rope_theta")) CRIBLE_RETURN_IF_ERROR(set("rope.freq_base", *theta, "rope_theta"));
  if (const json* theta = find("rope_local_base_freq")) {
    CRIBLE_RETURN_IF_ERROR(set("rope.freq_base_swa", *theta, "rope_local_base_freq"));
  }
  if (const json* scaling = find("rope_scaling")) {
    CRIBLE_RETURN_IF_ERROR(rope_of(*scaling, "rope_scaling", "rope.freq_base"));
  }
  if (const json* parameters = find("rope_parameters"); parameters != nullptr) {
    if (!parameters->is_object()) return refuse("rope_parameters must be an object");
    if (!parameters->contains("full_attention")) return rope_of(*parameters, "rope_parameters", "rope.freq_base");
    CRIBLE_RETURN_IF_ERROR(
        rope_of((*parameters)["full_attention"], "rope_parameters.full_attention", "rope.freq_base"));
    if (parameters->contains("sliding_attention")) {
      CRIBLE_RETURN_IF_ERROR(
          rope_of((*parameters)["sliding_attention"], "rope_parameters.sliding_attention", "rope.freq_base_swa"));
    }
  }
  // A scaling that does not say what it scales from scales from the stated context (transformers).
  if (config_.keys.has("rope.scaling.type") && !config_.keys.has("rope.scaling.original_context_length")) {
    if (const json* context = find("max_position_embeddings")) {
      return set("rope.scaling.original_context_length", *context, "max_position_embeddings");
    }
  }
  return {};
}

Status Translator::window() {
  const json* size = find("sliding_window");
  const json* use = find("use_sliding_window");
  const json* types = find("layer_types");
  const bool in_use = config_.family->model_type == "mistral" || config_.family->four_norms ||
                      (use != nullptr && *use == true);
  if (size == nullptr || !in_use) {
    const bool asks = types != nullptr && types->is_array() &&
                      std::find(types->begin(), types->end(), json("sliding_attention")) != types->end();
    if (asks) return refuse("layer_types asks for sliding_attention, but no sliding_window is in use");
    find("sliding_window_pattern");
    return {};
  }
  CRIBLE_RETURN_IF_ERROR(set("attention.sliding_window", *size, "sliding_window"));
  CRIBLE_TRY(const int64_t layers, config_.keys.integer("block_count"));
  if (layers < 1 || layers > 1 << 20) return refuse("num_hidden_layers is {}", layers);
  return layers_with_window(layers);
}

Status Translator::layers_with_window(int64_t layers) {
  std::vector<bool> slides;
  const auto natural = [&](const char* key, int64_t absent) -> Result<int64_t> {
    const json* value = find(key);
    if (value == nullptr) return absent;
    if (!value->is_number_integer() || value->get<int64_t>() < 0) return refuse("{} must be a number of layers", key);
    return value->get<int64_t>();
  };
  if (const json* types = find("layer_types")) {
    for (const json& type : *types) {
      if (type != "sliding_attention" && type != "full_attention") {
        return refuse("layer_types holds {}; this build knows full_attention and sliding_attention", type.dump());
      }
      slides.push_back(type == "sliding_attention");
    }
    if (static_cast<int64_t>(slides.size()) != layers) {
      return refuse("layer_types has {} entries for {} layers", slides.size(), layers);
    }
    config_.keys.set("attention.sliding_window_pattern", std::move(slides), "layer_types");
    find("sliding_window_pattern");
    return {};
  }
  if (config_.family->model_type == "mistral") return {};  // all layers
  if (config_.family->four_norms) {
    // Every so many layers one sees everything.
    const int64_t usual = config_.family->architecture == "gemma2" ? 2 : 6;
    CRIBLE_TRY(const int64_t period, natural("sliding_window_pattern", usual));
    for (int64_t i = 0; i < layers; ++i) slides.push_back(period == 0 || (i + 1) % period != 0);
  } else {
    CRIBLE_TRY(const int64_t full, natural("max_window_layers", 28));  // the first ones see everything
    for (int64_t i = 0; i < layers; ++i) slides.push_back(i >= full);
  }
  config_.keys.set("attention.sliding_window_pattern", std::move(slides), "sliding_window");
  return {};
}

Status Translator::experts() {
  const json* normalise = find("norm_topk_prob");
  if (!config_.keys.has("expert_count")) return {};
  if (normalise != nullptr) {
    CRIBLE_RETURN_IF_ERROR(set("expert_weights_norm", *normalise, "norm_topk_prob"));
  } else {
    config_.keys.set("expert_weights_norm", false, "norm_topk_prob");
  }
  if (const json* dense = find("mlp_only_layers"); dense != nullptr && dense->is_array()) {
    for (const json& layer : *dense) {
      if (layer.is_number_integer()) config_.dense_layers.insert(layer.get<int64_t>());
    }
  }
  return {};
}

void Translator::biases() {
  const auto stated = [&](const char* key) {
    const json* value = find(key);
    return value != nullptr && *value == true;
  };
  config_.attention_bias = stated("attention_bias");
  config_.mlp_bias = stated("mlp_bias");
}

Status Translator::check_known() const {
  for (const auto& [key, value] : object_.items()) {
    if (known_.contains(key) || key.starts_with('_') || is_off(value)) continue;
    return refuse("the setting {} is not known to this build, so the model cannot be computed as it was made; use a "
                  "model without it", key);
  }
  return {};
}

Status Translator::translate() {
  CRIBLE_RETURN_IF_ERROR(renamed());
  CRIBLE_RETURN_IF_ERROR(activation());
  CRIBLE_RETURN_IF_ERROR(rope());
  CRIBLE_RETURN_IF_ERROR(window());
  CRIBLE_RETURN_IF_ERROR(experts());
  biases();
  return check_known();
}

Result<const HfFamily*> family_of(const json& object, const std::string& path) {
  const auto type = object.find("model_type");
  std::string known;
  for (const HfFamily& family : hf_families()) known += (known.empty() ? "" : ", ") + std::string(family.model_type);
  if (type == object.end() || !type->is_string()) {
    return fail(ErrorCode::kCorrupt, "{}: it has no model_type; this build computes: {}", path, known);
  }
  const HfFamily* family = find_hf_family(type->get_ref<const std::string&>());
  if (family == nullptr) {
    return fail(ErrorCode::kUnsupported, "{}: the model_type '{}' is not supported; this build computes: {}", path,
                type->get_ref<const std::string&>(), known);
  }
  return family;
}

DType stated_dtype(const json& object) {
  for (const char* key : {"dtype", "torch_dtype"}) {
    const auto stated = object.find(key);
    if (stated == object.end() || !stated->is_string()) continue;
    if (*stated == "float32") return DType::kF32;
    if (*stated == "float16") return DType::kF16;
  }
  return DType::kBF16;
}

}  // namespace

Result<HfConfig> parse_hf_config(std::string_view text, const std::string& path) {
  const json object = json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return fail(ErrorCode::kCorrupt, "{}: it is not a JSON object", path);
  CRIBLE_TRY(const HfFamily* family, family_of(object, path));
  CRIBLE_TRY(QuantizationScheme scheme,
             parse_quantization_scheme(object.contains("quantization_config") ? object["quantization_config"] : json(),
                                       path));
  HfConfig config{.keys = ConfigKeys(path, std::string(family->architecture)),
                  .family = family,
                  .tied_embeddings = family->tied_by_default,
                  .dtype = stated_dtype(object),
                  .quantization = std::move(scheme)};
  if (const auto tied = object.find("tie_word_embeddings"); tied != object.end() && !tied->is_null()) {
    if (!tied->is_boolean()) return fail(ErrorCode::kCorrupt, "{}: tie_word_embeddings must be true or false", path);
    config.tied_embeddings = tied->get<bool>();
  }
  CRIBLE_RETURN_IF_ERROR(Translator(object, path, config).translate());
  return config;
}

Result<HfConfig> read_hf_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  CRIBLE_TRY(const std::string text, read_file(path, kMaxConfigBytes));
  return parse_hf_config(text, path.string());
}

}  // namespace crible
