#include "model/hf_family.h"

#include <fmt/format.h>

#include <array>
#include <cstdint>

namespace crible {
namespace {

constexpr auto kFamilies = std::to_array<HfFamily>({
    {.model_type = "llama", .architecture = "llama", .activation = "silu"},
    {.model_type = "mistral", .architecture = "llama", .activation = "silu"},
    {.model_type = "qwen2", .architecture = "qwen2", .activation = "silu"},
    {.model_type = "qwen3", .architecture = "qwen3", .activation = "silu", .head_size = 128},
    {.model_type = "qwen3_moe", .architecture = "qwen3moe", .activation = "silu"},
    {.model_type = "gemma2", .architecture = "gemma2", .activation = "gelu_pytorch_tanh", .four_norms = true,
     .tied_by_default = true, .head_size = 256},
    {.model_type = "gemma3_text", .architecture = "gemma3", .activation = "gelu_pytorch_tanh", .four_norms = true,
     .tied_by_default = true, .head_size = 256},
});

struct Name {
  std::string_view gguf;
  std::string_view hf;
};

constexpr auto kModelNames = std::to_array<Name>({
    {"token_embd", "model.embed_tokens"},
    {"output_norm", "model.norm"},
    {"output", "lm_head"},
});
// After "blk.N." and "model.layers.N.".
constexpr auto kLayerNames = std::to_array<Name>({
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_inp", "mlp.gate"},
});
constexpr auto kTwoNormNames = std::to_array<Name>({
    {"ffn_norm", "post_attention_layernorm"},
});
constexpr auto kFourNormNames = std::to_array<Name>({
    {"post_attention_norm", "post_attention_layernorm"},
    {"ffn_norm", "pre_feedforward_layernorm"},
    {"post_ffw_norm", "post_feedforward_layernorm"},
});
constexpr auto kExpertNames = std::to_array<Name>({
    {"ffn_gate_exps", "gate_proj"},
    {"ffn_up_exps", "up_proj"},
    {"ffn_down_exps", "down_proj"},
});

std::optional<std::string_view> look_up(std::span<const Name> names, std::string_view gguf) {
  for (const Name& name : names) {
    if (name.gguf == gguf) return name.hf;
  }
  return std::nullopt;
}

}  // namespace

std::span<const HfFamily> hf_families() { return kFamilies; }

const HfFamily* find_hf_family(std::string_view model_type) {
  for (const HfFamily& family : kFamilies) {
    if (family.model_type == model_type) return &family;
  }
  return nullptr;
}

std::optional<std::string> hf_tensor_stem(const HfFamily& family, std::string_view gguf_stem, int64_t expert) {
  constexpr std::string_view kBlock = "blk.";
  if (!gguf_stem.starts_with(kBlock)) {
    const auto name = look_up(kModelNames, gguf_stem);
    return name ? std::optional(std::string(*name)) : std::nullopt;
  }
  gguf_stem.remove_prefix(kBlock.size());
  const size_t dot = gguf_stem.find('.');
  if (dot == std::string_view::npos) return std::nullopt;
  const std::string_view layer = gguf_stem.substr(0, dot), part = gguf_stem.substr(dot + 1);
  if (const auto name = look_up(kExpertNames, part)) {
    return fmt::format("model.layers.{}.mlp.experts.{}.{}", layer, expert, *name);
  }
  auto name = look_up(kLayerNames, part);
  if (!name) name = family.four_norms ? look_up(kFourNormNames, part) : look_up(kTwoNormNames, part);
  return name ? std::optional(fmt::format("model.layers.{}.{}", layer, *name)) : std::nullopt;
}

}  // namespace crible
