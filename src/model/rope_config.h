// Rotary positions as a checkpoint states them, and the table that operations rotate by. Scalings: linear
// (positions divided), llama3 (Llama 3.1: low frequencies divided), yarn (Peng et al. 2023), and factors
// per frequency that a GGUF file holds as a tensor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "model/checkpoint.h"
#include "model/config_reader.h"
#include "ops/rope/rope.h"

namespace crible {

enum class RopeScaling { kNone, kLinear, kLlama3, kYarn };

struct RopeConfig {
  double base = 10'000;
  RopeScaling scaling = RopeScaling::kNone;
  double factor = 1;             // by which the context was stretched
  int64_t original_context = 0;  // llama3, yarn: positions before that
  double low_frequency_factor = 1;   // llama3: original_context over the wavelength that is stretched whole
  double high_frequency_factor = 4;  // llama3: and over the one that is kept
  double beta_fast = 32;  // yarn: rotations within original_context above which a frequency is kept
  double beta_slow = 1;   // yarn: and below which it is stretched whole
  bool truncate = true;   // yarn: the ramp between the two begins and ends at whole dimensions
  double attention_factor = 1;  // yarn: of cosine and sine
};

std::span<const std::string_view> rope_config_keys();
Result<int64_t> read_rotary_size(const ConfigReader& keys, int64_t head_size);
// context_length: what a scaling starts from that does not say so.
Result<RopeConfig> read_rope_config(const ConfigReader& keys, double default_base, int64_t context_length);
// Of layers with a window: unscaled, by a base of their own. None where neither file nor architecture
// gives one.
Result<std::optional<RopeConfig>> read_window_rope_config(const ConfigReader& keys,
                                                          std::optional<double> default_base);

// factors: of each frequency, which they divide; empty for none. Positions [0, max_positions).
RopeTable make_rope_table(const RopeConfig& config, int64_t rotary_size, int64_t max_positions,
                          std::span<const float> factors);
// rope_freqs.weight where the checkpoint has it (Llama 3.1 as GGUF), else empty.
Result<std::vector<float>> load_rope_factors(Checkpoint& checkpoint, int64_t rotary_size);

}  // namespace crible
