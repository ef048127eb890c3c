// What quantization_config in a config.json says about the weights of a folder, checked before any
// weight is read: what this build cannot dequantise exactly as meant is refused by name.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/result.h"
#include "device/dtype.h"

namespace crible {

enum class QuantizationMethod { kNone, kAwq, kGptq, kFp8 };

struct QuantizationScheme {
  QuantizationMethod method = QuantizationMethod::kNone;
  std::string name = "none";  // "awq 4 bit", for people
  int64_t bits = 0;           // AWQ, GPTQ: per weight
  int64_t group_size = 0;     // AWQ, GPTQ: inputs that share a scale; -1 = all
  // GPTQ: stored zero points are one less than meant, as its first format writes them.
  bool zeros_less_one = false;
  // What its matrices become as a rule (quantised_linear.h): for plans made without reading them.
  DType memory_type = DType::kBF16;
  int64_t block_rows = 0, block_columns = 0;  // FP8: rectangle of one scale; 0 = as the scale's shape says
};

// json: the object, or null for weights as they are. path: for messages.
Result<QuantizationScheme> parse_quantization_scheme(const nlohmann::json& json, const std::string& path);

}  // namespace crible
