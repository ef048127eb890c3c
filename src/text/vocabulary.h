// A vocabulary as its source states it (GGUF keys today), before any table is built from it: texts,
// kinds, merges, named ids. Values only; `Tokenizer` checks and compiles it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"

namespace crible {

// Numbers as they stand in tokenizer.ggml.token_type.
enum class TokenKind : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,      // steers the model, never part of a user's text: <|im_end|>
  kUserDefined = 4,  // added text that is one token wherever it stands
  kUnused = 5,
  kByte = 6,  // "<0x0A>"
};

struct Vocabulary {
  std::string source;  // file path, for error messages

  std::vector<std::string> texts;  // normal tokens in the byte alphabet, the others literally
  std::vector<TokenKind> kinds;    // same length as texts
  std::vector<std::pair<std::string, std::string>> merges;  // best rank first

  std::string pre_tokenizer;  // name of the splitting rule: "smollm", "llama-bpe", ...
  std::optional<TokenId> bos, eos, eot, eom, pad, unknown;
  std::optional<bool> add_bos, add_eos;  // not stated: the splitting rule's default
};

}  // namespace crible
