#include "text/tokenizer_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "text/byte_alphabet.h"
#include "text/json_member.h"
#include "text/tokenizer_json_steps.h"

namespace crible {
namespace {

using nlohmann::json;

const json& part_of(const json& root, std::string_view name) {
  static const json kNone;
  const json* part = find_member(root, name);
  return part == nullptr ? kNone : *part;
}

class ModelReader {
 public:
  ModelReader(const json& root, std::string source)
      : root_(root), model_(part_of(root, "model")), where_(source + ": model") {
    vocabulary_.source = std::move(source);
  }

  Result<Vocabulary> read(bool byte_level) {
    vocabulary_.segmentation = byte_level ? Segmentation::kByteBpe : Segmentation::kCharacterBpe;
    vocabulary_.join_over_missing = true;
    CRIBLE_RETURN_IF_ERROR(check_kind());
    CRIBLE_RETURN_IF_ERROR(read_texts());
    CRIBLE_RETURN_IF_ERROR(read_added_tokens());
    for (size_t i = 0; i < vocabulary_.texts.size(); ++i) {
      if (vocabulary_.texts[i].empty()) vocabulary_.kinds[i] = TokenKind::kUnused;
    }
    CRIBLE_RETURN_IF_ERROR(read_merges());
    CRIBLE_RETURN_IF_ERROR(read_options());
    return std::move(vocabulary_);
  }

 private:
  Status check_kind() {
    if (!model_.is_object())
      return fail(ErrorCode::kCorrupt, "{}: not a tokenizer.json: no \"model\"", vocabulary_.source);
    CRIBLE_TRY(const auto type, read_string(model_, "type", where_));
    // Files older than the key hold BPE where they hold merges.
    const bool bpe = type ? *type == "BPE" : find_member(model_, "merges") != nullptr;
    if (!bpe) {
      return fail(ErrorCode::kUnsupported, "{} is of type \"{}\"; this build reads BPE", where_,
                  type.value_or("not stated"));
    }
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      CRIBLE_TRY(const auto text, read_string(model_, affix, where_));
      if (!text.value_or("").empty()) {
        return fail(ErrorCode::kUnsupported, "{}: \"{}\" is not supported; the tokenizer cannot be used",
                    where_, affix);
      }
    }
    const json* dropout = find_member(model_, "dropout");
    if (dropout != nullptr && *dropout != 0) {
      return fail(ErrorCode::kUnsupported, "{}: \"dropout\" makes results random and is not supported",
                  where_);
    }
    return {};
  }

  // The place of a token's text, made where it is not there yet.
  Result<std::string*> text_slot(int64_t id, size_t token_count) {
    // Gaps are allowed, a table many times the tokens is not.
    const int64_t limit = static_cast<int64_t>(token_count) * 2 + 65536;
    if (id < 0 || id >= limit) {
      return fail(ErrorCode::kCorrupt, "{}: {} is no id among {} tokens", where_, id, token_count);
    }
    const size_t place = static_cast<size_t>(id);
    if (place >= vocabulary_.texts.size()) {
      vocabulary_.texts.resize(place + 1);
      vocabulary_.kinds.resize(place + 1, TokenKind::kNormal);
    }
    return &vocabulary_.texts[place];
  }

  Status read_texts() {
    const json* vocab = find_member(model_, "vocab");
    if (vocab == nullptr || !vocab->is_object() || vocab->empty()) {
      return fail(ErrorCode::kCorrupt, "{} has no \"vocab\"", where_);
    }
    vocabulary_.texts.reserve(vocab->size());
    for (const auto& [text, id] : vocab->items()) {
      if (!id.is_number_integer())
        return fail(ErrorCode::kCorrupt, "{}: the id of \"{}\" is no integer", where_, text);
      CRIBLE_TRY(std::string * slot, text_slot(id.get<int64_t>(), vocab->size()));
      if (!slot->empty() || text.empty()) {
        return fail(ErrorCode::kCorrupt, "{}: tokens \"{}\" and \"{}\" share id {}", where_, *slot, text,
                    id.get<int64_t>());
      }
      *slot = text;
    }
    return {};
  }

  Status read_added_tokens() {
    const std::string where = vocabulary_.source + ": added_tokens";
    CRIBLE_TRY(const json* tokens, read_array(root_, "added_tokens", vocabulary_.source));
    if (tokens == nullptr) return {};
    const size_t token_count = vocabulary_.texts.size() + tokens->size();
    for (const json& token : *tokens) {
      CRIBLE_TRY(const auto text, read_string(token, "content", where));
      CRIBLE_TRY(const auto id, read_integer(token, "id", where));
      if (!text || !id) return fail(ErrorCode::kCorrupt, "{} has one without \"content\" or \"id\"", where);
      if (text->empty()) continue;
      CRIBLE_TRY(std::string * slot, text_slot(*id, token_count));
      if (!slot->empty() && *slot != *text) {
        return fail(ErrorCode::kCorrupt, "{}: tokens \"{}\" and \"{}\" share id {}", where, *slot, *text,
                    *id);
      }
      *slot = *text;
      AddedToken added{.id = static_cast<TokenId>(*id)};
      CRIBLE_TRY(const auto special, read_flag(token, "special", where));
      const std::pair<const char*, bool*> traits[] = {{"normalized", &added.normalized},
                                                      {"lstrip", &added.strip_left},
                                                      {"rstrip", &added.strip_right},
                                                      {"single_word", &added.single_word}};
      for (const auto& [name, trait] : traits) {
        CRIBLE_TRY(const auto flag, read_flag(token, name, where));
        *trait = flag.value_or(false);
      }
      vocabulary_.kinds[static_cast<size_t>(*id)] =
          special.value_or(false) ? TokenKind::kControl : TokenKind::kUserDefined;
      vocabulary_.added.push_back(added);
    }
    return {};
  }

  Status read_merges() {
    CRIBLE_TRY(const json* merges, read_array(model_, "merges", where_));
    if (merges == nullptr) return fail(ErrorCode::kCorrupt, "{} has no \"merges\"", where_);
    vocabulary_.merges.reserve(merges->size());
    for (size_t i = 0; i < merges->size(); ++i) {
      const json& merge = (*merges)[i];
      if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
        vocabulary_.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
        continue;
      }
      const std::string text = merge.is_string() ? merge.get<std::string>() : "";
      const size_t space = text.find(' ');
      if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
        return fail(ErrorCode::kCorrupt, "{}: merge {} is neither a pair nor two tokens with a space between",
                    where_, i);
      }
      vocabulary_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    }
    return {};
  }

  Status read_options() {
    CRIBLE_TRY(const auto ignore_merges, read_flag(model_, "ignore_merges", where_));
    CRIBLE_TRY(const auto byte_fallback, read_flag(model_, "byte_fallback", where_));
    CRIBLE_TRY(const auto fuse_unknown, read_flag(model_, "fuse_unk", where_));
    CRIBLE_TRY(const auto unknown, read_string(model_, "unk_token", where_));
    vocabulary_.ignore_merges = ignore_merges.value_or(false);
    vocabulary_.byte_fallback = byte_fallback.value_or(false);
    vocabulary_.fuse_unknown = fuse_unknown.value_or(false);
    if (vocabulary_.byte_fallback) {
      for (size_t i = 0; i < vocabulary_.texts.size(); ++i) {
        if (vocabulary_.kinds[i] == TokenKind::kNormal && parse_byte_token(vocabulary_.texts[i]))
          vocabulary_.kinds[i] = TokenKind::kByte;
      }
    }
    if (!unknown || unknown->empty()) return {};
    const auto found = std::ranges::find(vocabulary_.texts, *unknown);
    if (found == vocabulary_.texts.end()) {
      return fail(ErrorCode::kCorrupt, "{}: the unk_token \"{}\" is not in the vocabulary", where_, *unknown);
    }
    vocabulary_.unknown_piece = static_cast<TokenId>(found - vocabulary_.texts.begin());
    return {};
  }

  const json& root_;
  const json& model_;
  std::string where_;
  Vocabulary vocabulary_;
};

}  // namespace

Result<TokenizerParts> read_tokenizer_json(std::string_view text, std::string source) {
  const json root = parse_file_json(text);
  if (!root.is_object()) return fail(ErrorCode::kCorrupt, "{}: not a JSON object", source);
  TokenizerParts parts;
  CRIBLE_TRY(parts.normalizer, read_normalizer(part_of(root, "normalizer"), source));
  CRIBLE_TRY(PreTokenizerPart pre_tokenizer, read_pre_tokenizer(part_of(root, "pre_tokenizer"), source));
  CRIBLE_TRY(PostProcessorPart post_processor, read_post_processor(part_of(root, "post_processor"), source));
  CRIBLE_TRY(parts.text_rules, read_decoder(part_of(root, "decoder"), source));
  if (pre_tokenizer.byte_level != parts.text_rules.byte_alphabet) {
    return fail(ErrorCode::kUnsupported, "{}: pre_tokenizer and decoder disagree on \"ByteLevel\"", source);
  }
  CRIBLE_TRY(parts.vocabulary, ModelReader(root, source).read(pre_tokenizer.byte_level));
  parts.pre_tokenizer = std::move(pre_tokenizer.pre_tokenizer);
  parts.prefix = std::move(post_processor.prefix);
  parts.suffix = std::move(post_processor.suffix);
  for (const std::vector<TokenId>* around : {&parts.prefix, &parts.suffix}) {
    for (const TokenId id : *around) {
      if (static_cast<size_t>(id) >= parts.vocabulary.texts.size()) {
        return fail(ErrorCode::kCorrupt,
                    "{}: post_processor adds token {}, but the vocabulary has ids 0 to {}", source, id,
                    parts.vocabulary.texts.size() - 1);
      }
    }
  }
  return parts;
}

}  // namespace crible
