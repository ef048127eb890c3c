#include "text/model_folder.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "text/chat_template.h"
#include "text/json_member.h"
#include "text/tokenizer_json.h"

namespace crible {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

// No embedding table has near this many rows.
constexpr int64_t kMaxVocabulary = int64_t{1} << 24;

struct JsonFile {
  std::string path;
  json content;  // null when there is no such file
};

Result<JsonFile> read_json(const fs::path& path) {
  JsonFile file{path.string(), nullptr};
  std::error_code error;
  if (!fs::exists(path, error)) return file;
  CRIBLE_TRY(const std::string text, read_file(path));
  file.content = parse_file_json(text);
  if (!file.content.is_object()) return fail(ErrorCode::kCorrupt, "{}: not a JSON object", file.path);
  return file;
}

class FolderReader {
 public:
  explicit FolderReader(fs::path folder) : folder_(std::move(folder)) {}

  Result<TextModel> load() {
    const fs::path tokenizer_path = folder_ / "tokenizer.json";
    std::error_code error;
    if (!fs::exists(tokenizer_path, error)) {
      return fail(
          ErrorCode::kNotFound,
          "{}: no tokenizer.json; save the model's fast tokenizer there (tokenizer.model and vocab.json "
          "alone are not read)",
          folder_.string());
    }
    CRIBLE_TRY(config_, read_json(folder_ / "tokenizer_config.json"));
    CRIBLE_TRY(special_map_, read_json(folder_ / "special_tokens_map.json"));
    CRIBLE_TRY(const std::string text, read_file(tokenizer_path));
    CRIBLE_TRY(parts_, read_tokenizer_json(text, tokenizer_path.string()));
    CRIBLE_RETURN_IF_ERROR(name_tokens());
    CRIBLE_RETURN_IF_ERROR(apply_added_flags());
    CRIBLE_RETURN_IF_ERROR(read_ends());
    CRIBLE_RETURN_IF_ERROR(pad_to_model());
    TextModel model;
    CRIBLE_TRY(model.chat_template, read_template());
    CRIBLE_TRY(model.tokenizer, Tokenizer::make(std::move(parts_)));
    return model;
  }

 private:
  std::optional<TokenId> find_text(std::string_view text) const {
    const auto& texts = parts_.vocabulary.texts;
    const auto found = std::ranges::find(texts, text);
    return found == texts.end() ? std::nullopt
                                : std::optional<TokenId>(static_cast<TokenId>(found - texts.begin()));
  }

  // "<s>" or {"content": "<s>", ...}; tokenizer_config.json goes before special_tokens_map.json.
  Result<std::optional<TokenId>> named_token(const char* name) const {
    for (const JsonFile* file : {&config_, &special_map_}) {
      const json* member = find_member(file->content, name);
      if (member == nullptr) continue;
      CRIBLE_TRY(const auto text, member->is_object() ? read_string(*member, "content", file->path)
                                                      : read_string(file->content, name, file->path));
      if (!text || text->empty()) continue;
      const auto id = find_text(*text);
      if (!id) {
        return fail(ErrorCode::kCorrupt, "{}: the {} \"{}\" is not in tokenizer.json", file->path, name,
                    *text);
      }
      return id;
    }
    return std::optional<TokenId>();
  }

  Status name_tokens() {
    Vocabulary& vocabulary = parts_.vocabulary;
    CRIBLE_TRY(vocabulary.bos, named_token("bos_token"));
    CRIBLE_TRY(vocabulary.eos, named_token("eos_token"));
    CRIBLE_TRY(vocabulary.pad, named_token("pad_token"));
    return {};
  }

  // add_bos_token and add_eos_token, where either is stated, go before the post-processor, as in
  // transformers 5.
  Status apply_added_flags() {
    CRIBLE_TRY(const auto add_bos, read_flag(config_.content, "add_bos_token", config_.path));
    CRIBLE_TRY(const auto add_eos, read_flag(config_.content, "add_eos_token", config_.path));
    if (!add_bos && !add_eos) return {};
    parts_.prefix.clear();
    parts_.suffix.clear();
    if (add_bos.value_or(false) && parts_.vocabulary.bos) parts_.prefix = {*parts_.vocabulary.bos};
    if (add_eos.value_or(false) && parts_.vocabulary.eos) parts_.suffix = {*parts_.vocabulary.eos};
    return {};
  }

  // eos_token_id of generation_config.json and config.json: a number or several.
  Status read_ends() {
    for (const char* name : {"generation_config.json", "config.json"}) {
      CRIBLE_TRY(const JsonFile file, read_json(folder_ / name));
      const json* member = find_member(file.content, "eos_token_id");
      if (member == nullptr) continue;
      const json ids = member->is_array() ? *member : json::array({*member});
      for (const json& id : ids) {
        const int64_t value = id.is_number_integer() ? id.get<int64_t>() : -1;
        if (value < 0 || value >= static_cast<int64_t>(parts_.vocabulary.texts.size())) {
          return fail(ErrorCode::kCorrupt, "{}: eos_token_id {} is no token of tokenizer.json", file.path,
                      id.dump());
        }
        parts_.vocabulary.ends.push_back(static_cast<TokenId>(value));
      }
      return {};
    }
    return {};
  }

  // Models have more rows than their tokenizers have tokens: what they may then sample is a token
  // without text.
  Status pad_to_model() {
    CRIBLE_TRY(const JsonFile file, read_json(folder_ / "config.json"));
    const json* text_config = find_member(file.content, "text_config");
    CRIBLE_TRY(const auto size,
               read_integer(text_config == nullptr ? file.content : *text_config, "vocab_size", file.path));
    Vocabulary& vocabulary = parts_.vocabulary;
    if (!size || *size <= static_cast<int64_t>(vocabulary.texts.size())) return {};
    if (*size > kMaxVocabulary) return fail(ErrorCode::kCorrupt, "{}: vocab_size is {}", file.path, *size);
    vocabulary.texts.resize(static_cast<size_t>(*size));
    vocabulary.kinds.resize(static_cast<size_t>(*size), TokenKind::kUnused);
    return {};
  }

  struct TemplateSources {
    std::optional<std::string> usual, tool_use;
  };

  Result<std::optional<std::string>> read_optional_file(const fs::path& path) const {
    std::error_code error;
    if (!fs::exists(path, error)) return std::optional<std::string>();
    CRIBLE_TRY(std::string text, read_file(path));
    return std::optional<std::string>(std::move(text));
  }

  // chat_template in tokenizer_config.json: the source, or [{"name", "template"}].
  Result<TemplateSources> configured_templates() const {
    TemplateSources sources;
    const json* member = find_member(config_.content, "chat_template");
    if (member == nullptr) return sources;
    if (!member->is_array()) {
      CRIBLE_TRY(sources.usual, read_string(config_.content, "chat_template", config_.path));
      return sources;
    }
    for (const json& entry : *member) {
      CRIBLE_TRY(const auto name, read_string(entry, "name", config_.path));
      CRIBLE_TRY(const auto source, read_string(entry, "template", config_.path));
      if (name == "default") sources.usual = source;
      if (name == "tool_use") sources.tool_use = source;
    }
    return sources;
  }

  Result<std::shared_ptr<const ChatTemplate>> read_template() const {
    CRIBLE_TRY(TemplateSources sources, configured_templates());
    CRIBLE_TRY(auto own_file, read_optional_file(folder_ / "chat_template.jinja"));
    CRIBLE_TRY(auto tool_file, read_optional_file(folder_ / "additional_chat_templates" / "tool_use.jinja"));
    if (own_file) sources.usual = std::move(own_file);
    if (tool_file) sources.tool_use = std::move(tool_file);
    if (!sources.usual && !sources.tool_use) return std::shared_ptr<const ChatTemplate>();
    auto parsed = ChatTemplate::parse(sources.usual ? *sources.usual : *sources.tool_use,
                                      sources.usual ? sources.tool_use : std::nullopt);
    if (!parsed) return tl::unexpected<Error>(with_context(parsed.error(), folder_.string()));
    return std::make_shared<const ChatTemplate>(*std::move(parsed));
  }

  fs::path folder_;
  JsonFile config_, special_map_;
  TokenizerParts parts_;
};

}  // namespace

Result<TextModel> load_model_folder(const fs::path& folder) {
  CRIBLE_TRY(TextModel model, FolderReader(folder).load());
  complete_from_tokenizer(model);
  return model;
}

}  // namespace crible
