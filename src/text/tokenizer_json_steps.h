// The parts of a tokenizer.json around the model: normalizer, pre_tokenizer, post_processor,
// decoder. Each reader takes that part (null: none) and the file's path for messages.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/normalizer.h"
#include "text/pre_tokenizer.h"
#include "text/token_text.h"

namespace crible {

Result<Normalizer> read_normalizer(const nlohmann::json& part, std::string_view source);

struct PreTokenizerPart {
  PreTokenizer pre_tokenizer;
  bool byte_level = false;  // words are taken as bytes, written in the byte alphabet
};
Result<PreTokenizerPart> read_pre_tokenizer(const nlohmann::json& part, std::string_view source);

struct PostProcessorPart {
  std::vector<TokenId> prefix, suffix;
};
Result<PostProcessorPart> read_post_processor(const nlohmann::json& part, std::string_view source);

Result<TokenTextRules> read_decoder(const nlohmann::json& part, std::string_view source);

}  // namespace crible
