// Reads the tokenizer keys of a GGUF file into a Vocabulary. Supports tokenizer.ggml.model "gpt2"
// (byte-level BPE) and "llama" (SentencePiece BPE with scores); another model is kUnsupported, a key
// missing or malformed is kCorrupt.
#pragma once

#include "base/result.h"
#include "format/gguf.h"
#include "text/vocabulary.h"

namespace crible {

Result<Vocabulary> read_gguf_vocabulary(const GgufFile& file);

}  // namespace crible
