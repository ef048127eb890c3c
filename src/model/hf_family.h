// The model families of Hugging Face folders that this build reads: which architecture computes each,
// and how its tensors are called there. One row per model_type of config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace crible {

struct HfFamily {
  std::string_view model_type;    // of config.json
  std::string_view architecture;  // GGUF's name for what computes it
  std::string_view activation;    // the only one that the architecture computes
  bool four_norms = false;        // Gemma: norms after attention and feed-forward too, stored as w of 1 + w
  bool tied_by_default = false;   // when config.json does not state tie_word_embeddings
  int head_size = 0;              // when config.json does not state head_dim; 0 = width / heads
};

std::span<const HfFamily> hf_families();
const HfFamily* find_hf_family(std::string_view model_type);

// The folder's name for a tensor by GGUF's name, without the last part (".weight", ".bias"):
// "blk.3.attn_q" -> "model.layers.3.self_attn.q_proj". None for a tensor that such folders do not have.
// Of a stack of experts, the name of one: "blk.3.ffn_up_exps" -> "model.layers.3.mlp.experts.{expert}.up_proj".
std::optional<std::string> hf_tensor_stem(const HfFamily& family, std::string_view gguf_stem, int64_t expert = 0);

}  // namespace crible
