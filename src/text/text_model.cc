#include "text/text_model.h"

#include "format/gguf.h"
#include "text/chat_template.h"

namespace crible {

Result<TextModel> load_text_model(const std::filesystem::path& path) {
  CRIBLE_TRY(const GgufFile file, GgufFile::open(path));
  TextModel model;
  CRIBLE_TRY(model.tokenizer, Tokenizer::from_gguf(file));
  const Tokenizer& tokenizer = *model.tokenizer;
  if (tokenizer.bos()) model.bos_text = tokenizer.token_text(*tokenizer.bos());
  if (tokenizer.eos()) model.eos_text = tokenizer.token_text(*tokenizer.eos());
  for (TokenId id = 0; id < tokenizer.vocabulary_size(); ++id) {
    if (tokenizer.is_end_of_generation(id)) model.end_of_generation.push_back(id);
  }
  constexpr std::string_view kTemplateKey = "tokenizer.chat_template";
  if (file.has(kTemplateKey)) {
    CRIBLE_TRY(const std::string_view source, file.get_string(kTemplateKey));
    auto parsed = ChatTemplate::parse(std::string(source));
    if (!parsed) return tl::unexpected<Error>(with_context(parsed.error(), fmt::format("{}: chat template", path.string())));
    model.chat_template = std::make_shared<const ChatTemplate>(std::move(*parsed));
  }
  return model;
}

}  // namespace crible
