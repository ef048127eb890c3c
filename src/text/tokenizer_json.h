// Reads a tokenizer.json (Hugging Face tokenizers): the BPE models with what stands around them.
// What it holds beyond that (WordPiece, Unigram, unusual steps) is kUnsupported and named; what
// breaks the format is kCorrupt.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer.h"

namespace crible {

// json: the file's content; source: its path, for messages. Named ids and ends are left to the
// caller: a tokenizer.json does not say which token begins or ends a sequence.
Result<TokenizerParts> read_tokenizer_json(std::string_view json, std::string source);

}  // namespace crible
