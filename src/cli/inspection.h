// What `crible inspect` knows of a model without loading its weights: configuration, tensors, tokenizer,
// template, and what memory the engine needs for it. One value, rendered as JSON or as text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "model/model_registry.h"

namespace crible {

struct TypeTotal {
  std::string type;
  int64_t tensors = 0;
  int64_t elements = 0;
  int64_t bytes = 0;  // in the files
};

struct TokenizerFacts {
  std::string kind;  // "gpt2 (pre-tokenizer qwen2)", "tokenizer.json"
  int64_t vocabulary = 0;
  std::string bos, eos;               // texts; empty when there is none
  std::vector<std::string> end_tokens;  // texts of the tokens that end an answer
  bool adds_bos = false;
};

struct TemplateFacts {
  std::string source;
  std::vector<std::string> features;  // "tools", "enable_thinking": variables that it looks at
};

// KV memory under one element type.
struct KvFacts {
  std::string dtype;
  int64_t bytes_per_token = 0;  // all layers
};

// What fits beside the weights, by KV element type in the order of Inspection::kv.
struct BudgetFacts {
  int64_t budget_bytes = 0;
  struct Fit {
    int64_t tokens = 0;     // of all sequences together
    int64_t sequences = 0;  // of the model's context length
  };
  std::vector<Fit> fits;
};

struct Inspection {
  std::string path;
  DecoderDescription decoder;
  int64_t parameters = 0;
  int64_t file_bytes = 0;
  int64_t weight_bytes = 0;  // in memory, near enough for a plan
  std::vector<TypeTotal> types;  // largest first
  std::optional<TokenizerFacts> tokenizer;
  std::string no_tokenizer;  // why there is none
  std::optional<TemplateFacts> chat_template;
  std::vector<KvFacts> kv;
  std::vector<BudgetFacts> budgets;
};

// budgets: bytes the engine may use in all. Activations, some MiB to some hundred, come on top of
// weights and KV blocks; the engine's own plan states them exactly.
Result<Inspection> inspect_model(const std::filesystem::path& path, const std::vector<int64_t>& budgets);

nlohmann::ordered_json to_json(const Inspection& inspection);
std::string to_text(const Inspection& inspection);

}  // namespace crible
