// Inverse frequencies of the rotary variants, for make_rope_table: plain, linear (positions divided), Llama 3.1,
// YaRN (Peng et al. 2023) and LongRoPE (Ding et al. 2024), in double precision. Gemma 3's two tables are
// plain (local layers, base 10,000) and linear (global layers, base 1,000,000, factor 8).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace crible {

struct RopeFrequencies {
  std::vector<double> inverse;  // [rotary_size / 2], radians per position
  double attention_factor = 1;  // of cosine and sine
};

// base^(-2i / rotary_size).
RopeFrequencies rope_frequencies(int64_t rotary_size, double base);

RopeFrequencies linear_rope_frequencies(int64_t rotary_size, double base, double factor);

struct Llama3Rope {
  double factor = 8;                 // by which low frequencies are divided
  double low_frequency_factor = 1;   // original_context over the wavelength above which they are low
  double high_frequency_factor = 4;  // and below which they are kept
  int64_t original_context = 8192;
};
RopeFrequencies llama3_rope_frequencies(int64_t rotary_size, double base, const Llama3Rope& scaling);

struct YarnRope {
  double factor = 1;
  int64_t original_context = 0;
  double beta_fast = 32;  // rotations within original_context above which a frequency is kept
  double beta_slow = 1;   // and below which it is divided by factor
  bool truncate = true;   // the ramp between them begins and ends at whole dimensions
  std::optional<double> attention_factor;  // without it 0.1·ln(factor) + 1
};
RopeFrequencies yarn_rope_frequencies(int64_t rotary_size, double base, const YarnRope& scaling);

// factors [rotary_size / 2]: the model's short or long ones, whichever its context asks for.
RopeFrequencies longrope_frequencies(double base, std::span<const double> factors, int64_t context,
                                     int64_t original_context);

}  // namespace crible
