// The text side of a model, read from its file: how text becomes tokens, how a conversation becomes
// text, and where a generation ends. Immutable once loaded, safe to share between threads.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "text/tokenizer.h"

namespace crible {

class ChatTemplate;

struct TextModel {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // null when the file has none
  std::string bos_text;                               // empty when there is none
  std::string eos_text;
  std::vector<TokenId> end_of_generation;  // tokens that end an answer, ascending
};

// path: a GGUF file, or a Hugging Face folder (model_folder.h); nothing of either is kept open. A
// chat template that does not parse is an error: answering chats without it would be worse than not
// starting.
Result<TextModel> load_text_model(const std::filesystem::path& path);

// Fills the fields that follow from the tokenizer.
void complete_from_tokenizer(TextModel& model);

}  // namespace crible
