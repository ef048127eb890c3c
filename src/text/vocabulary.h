// A vocabulary as its source states it (GGUF keys, tokenizer.json), before any table is built from
// it: texts, kinds, merges or scores, added tokens, named ids. Values only; `Tokenizer` checks and
// compiles it.
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

// How a word becomes tokens.
enum class Segmentation : uint8_t {
  kByteBpe,       // merges by rank, from bytes; normal tokens are written in the byte alphabet
  kCharacterBpe,  // merges by rank, from characters; bytes stand in for characters not in it
  kScoredMerges,  // SentencePiece BPE: whatever two neighbours make, best score first
};

// How an added token is found in text beyond being there literally.
struct AddedToken {
  TokenId id = -1;
  bool normalized = false;  // looked for in the normalised text, and itself normalised
  bool strip_left = false;  // takes the white space before it, after it
  bool strip_right = false;
  bool single_word = false;  // only where no word goes on beside it
};

struct Vocabulary {
  std::string source;  // file path, for error messages

  Segmentation segmentation = Segmentation::kByteBpe;
  std::vector<std::string> texts;                           // empty only for unused tokens
  std::vector<TokenKind> kinds;                             // same length as texts
  std::vector<std::pair<std::string, std::string>> merges;  // best rank first; BPE only
  std::vector<float> scores;                                // same length as texts; kScoredMerges only
  // Control, unknown and user-defined tokens are added ones by kind; these say more of some.
  std::vector<AddedToken> added;

  std::string pre_tokenizer;  // name of the splitting rule: "smollm", "llama-bpe", ...
  // A word that is itself in the vocabulary is that token, whatever the merges say.
  std::optional<bool> ignore_merges;  // not stated: the splitting rule's default
  bool byte_fallback = false;         // a character not in the vocabulary becomes its bytes' tokens
  bool fuse_unknown = false;          // several unknown characters in a row are one unknown token
  // The token for what nothing else expresses; none: it is left out. kCharacterBpe and kByteBpe.
  std::optional<TokenId> unknown_piece;
  // What is left out lets its neighbours merge (Hugging Face) or keeps them apart (llama.cpp).
  bool join_over_missing = false;
  bool add_space_prefix = false;  // kScoredMerges
  bool collapse_spaces = false;   // kScoredMerges

  std::optional<TokenId> bos, eos, eot, eom, pad, unknown;
  std::vector<TokenId> ends;             // more tokens that end a generation
  std::optional<bool> add_bos, add_eos;  // not stated: the splitting rule's default
};

}  // namespace crible
