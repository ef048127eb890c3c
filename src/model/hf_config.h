// config.json of a Hugging Face folder, translated into the keys that a GGUF of the same model would
// hold (config_keys.h), so that an architecture reads one spelling. A setting that is neither
// translated nor known to leave the computation alone is an error, unless it is off (null, false, 0).
// Where GGUF has no key, these are used: rope.freq_base_swa (base of layers with a window),
// rope.scaling.{low_freq_factor, high_freq_factor} (type llama3), rope.scaling.{attention_factor,
// mscale, mscale_all_dim, truncate, short_factor, long_factor} as Hugging Face means them, and
// attention.sliding_window_pattern (a list of booleans: the layers with the window).
#pragma once

#include <filesystem>
#include <set>
#include <string>
#include <string_view>

#include "base/result.h"
#include "device/dtype.h"
#include "model/config_keys.h"
#include "model/hf_family.h"
#include "model/quantization_scheme.h"

namespace crible {

struct HfConfig {
  ConfigKeys keys;
  const HfFamily* family;  // a row of hf_families()
  bool tied_embeddings = false;
  DType dtype = DType::kBF16;  // of weights that are not quantised, as stated
  QuantizationScheme quantization;
  // What the tensors of a folder show by being there, for weights that are made up.
  bool attention_bias = false;
  bool mlp_bias = false;
  std::set<int64_t> dense_layers;  // of a mixture of experts
};

Result<HfConfig> read_hf_config(const std::filesystem::path& folder);
// path: for messages.
Result<HfConfig> parse_hf_config(std::string_view text, const std::string& path);

}  // namespace crible
