#include "text/text_model.h"

#include "format/gguf.h"
#include "text/chat_template.h"
#include "text/model_folder.h"

namespace crible {
namespace {

Result<std::optional<std::string>> read_template(const GgufFile& file, const std::string& key) {
  if (!file.has(key)) return std::optional<std::string>();
  CRIBLE_TRY(const std::string_view source, file.get_string(key));
  return std::optional<std::string>(source);
}

Result<TextModel> load_gguf(const std::filesystem::path& path) {
  CRIBLE_TRY(const GgufFile file, GgufFile::open(path));
  TextModel model;
  CRIBLE_TRY(model.tokenizer, Tokenizer::from_gguf(file));
  complete_from_tokenizer(model);
  CRIBLE_TRY(auto source, read_template(file, "tokenizer.chat_template"));
  CRIBLE_TRY(auto tool_source, read_template(file, "tokenizer.chat_template.tool_use"));
  if (source) {
    auto parsed = ChatTemplate::parse(*std::move(source), std::move(tool_source));
    if (!parsed) return tl::unexpected<Error>(with_context(parsed.error(), path.string()));
    model.chat_template = std::make_shared<const ChatTemplate>(*std::move(parsed));
  }
  return model;
}

}  // namespace

void complete_from_tokenizer(TextModel& model) {
  const Tokenizer& tokenizer = *model.tokenizer;
  if (tokenizer.bos()) model.bos_text = tokenizer.token_text(*tokenizer.bos());
  if (tokenizer.eos()) model.eos_text = tokenizer.token_text(*tokenizer.eos());
  for (TokenId id = 0; id < tokenizer.vocabulary_size(); ++id) {
    if (tokenizer.is_end_of_generation(id)) model.end_of_generation.push_back(id);
  }
}

Result<TextModel> load_text_model(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error) ? load_model_folder(path) : load_gguf(path);
}

}  // namespace crible
