// Reads the text side of a Hugging Face model folder: tokenizer.json (required), and where they are
// there tokenizer_config.json, special_tokens_map.json, generation_config.json, config.json,
// chat_template.jinja and additional_chat_templates/tool_use.jinja.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "text/text_model.h"

namespace crible {

Result<TextModel> load_model_folder(const std::filesystem::path& folder);

}  // namespace crible
