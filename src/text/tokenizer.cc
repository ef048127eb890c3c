#include "text/tokenizer.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "text/gguf_vocabulary.h"
#include "text/splitting_rules.h"
#include "text/utf8.h"

namespace crible {
namespace {

// No model has near this many; a larger count is a damaged file.
constexpr size_t kMaxTokens = size_t{1} << 24;

// End-of-turn tokens of chat models, in the order in which they are taken for eot when the file
// names none. Files often name only one of several that the model really emits.
constexpr std::string_view kEndOfTurnTexts[] = {
    "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|end|>", "<|eom_id|>", "<EOT>",
};
// End-of-text tokens: they end a generation, but no turn.
constexpr std::string_view kEndOfTextTexts[] = {
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<｜end▁of▁sentence｜>",
};

bool is_special(TokenKind kind) {
  return kind == TokenKind::kControl || kind == TokenKind::kUnknown;
}

constexpr std::string_view kSpaceMark = "\u2581";  // "▁", SentencePiece's space

Status check_sizes(const Vocabulary& vocabulary) {
  if (vocabulary.texts.empty() || vocabulary.texts.size() > kMaxTokens) {
    return fail(ErrorCode::kCorrupt, "{}: {} tokens in the vocabulary, expected 1 to {}", vocabulary.source,
                vocabulary.texts.size(), kMaxTokens);
  }
  if (vocabulary.kinds.size() != vocabulary.texts.size()) {
    return fail(ErrorCode::kCorrupt, "{}: {} token kinds for {} tokens", vocabulary.source,
                vocabulary.kinds.size(), vocabulary.texts.size());
  }
  if (vocabulary.segmentation == Segmentation::kScoredMerges) {
    if (vocabulary.scores.size() != vocabulary.texts.size()) {
      return fail(ErrorCode::kCorrupt, "{}: {} scores for {} tokens", vocabulary.source,
                  vocabulary.scores.size(), vocabulary.texts.size());
    }
    for (size_t i = 0; i < vocabulary.scores.size(); ++i) {
      if (std::isnan(vocabulary.scores[i])) {
        return fail(ErrorCode::kCorrupt, "{}: the score of token {} is not a number", vocabulary.source, i);
      }
    }
  }
  return {};
}

Status check_named_ids(const Vocabulary& vocabulary) {
  const std::pair<const char*, std::optional<TokenId>> named[] = {
      {"bos", vocabulary.bos},
      {"eos", vocabulary.eos},
      {"eot", vocabulary.eot},
      {"eom", vocabulary.eom},
      {"pad", vocabulary.pad},
      {"unknown", vocabulary.unknown},
      {"unknown piece", vocabulary.unknown_piece},
  };
  const auto check = [&](const char* name, TokenId id) -> Status {
    if (id >= 0 && static_cast<size_t>(id) < vocabulary.texts.size()) return {};
    return fail(ErrorCode::kCorrupt, "{}: the {} token is {}, but the vocabulary has ids 0 to {}",
                vocabulary.source, name, id, vocabulary.texts.size() - 1);
  };
  for (const auto& [name, id] : named) {
    if (id) CRIBLE_RETURN_IF_ERROR(check(name, *id));
  }
  for (const TokenId id : vocabulary.ends) CRIBLE_RETURN_IF_ERROR(check("end", id));
  for (const AddedToken& token : vocabulary.added) CRIBLE_RETURN_IF_ERROR(check("added", token.id));
  if (vocabulary.add_bos.value_or(false) && !vocabulary.bos) {
    return fail(ErrorCode::kCorrupt, "{}: a bos token is to be added, but none is named", vocabulary.source);
  }
  if (vocabulary.add_eos.value_or(false) && !vocabulary.eos) {
    return fail(ErrorCode::kCorrupt, "{}: an eos token is to be added, but none is named", vocabulary.source);
  }
  return {};
}

Result<std::unordered_map<std::string_view, TokenId>> index_texts(const Vocabulary& vocabulary) {
  std::unordered_map<std::string_view, TokenId> ids;
  ids.reserve(vocabulary.texts.size());
  for (size_t i = 0; i < vocabulary.texts.size(); ++i) {
    const std::string& text = vocabulary.texts[i];
    if (text.empty()) {
      if (vocabulary.kinds[i] == TokenKind::kUnused) continue;
      return fail(ErrorCode::kCorrupt, "{}: token {} is empty; convert the model again", vocabulary.source,
                  i);
    }
    const auto [place, inserted] = ids.emplace(text, static_cast<TokenId>(i));
    if (!inserted) {
      return fail(ErrorCode::kCorrupt, "{}: tokens {} and {} are both \"{}\"; convert the model again",
                  vocabulary.source, place->second, i, text.substr(0, 64));
    }
  }
  return ids;
}

}  // namespace

Result<std::shared_ptr<const Tokenizer>> Tokenizer::from_gguf(const GgufFile& file) {
  CRIBLE_TRY(Vocabulary vocabulary, read_gguf_vocabulary(file));
  return from_vocabulary(std::move(vocabulary));
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::from_vocabulary(Vocabulary vocabulary) {
  CRIBLE_RETURN_IF_ERROR(check_sizes(vocabulary));
  TokenizerParts parts;
  bool add_bos_by_default = true;
  if (vocabulary.segmentation == Segmentation::kScoredMerges) {
    std::vector<NormalizerStep> steps;
    if (vocabulary.collapse_spaces) steps.emplace_back(CollapseSpacesStep{});
    if (vocabulary.add_space_prefix) {
      steps.emplace_back(PrependStep{" "});
      parts.text_rules.leading_space = LeadingSpace::kDropOne;
    }
    steps.emplace_back(LiteralReplaceStep{" ", std::string(kSpaceMark)});
    parts.normalizer = Normalizer(std::move(steps));
    parts.text_rules.byte_alphabet = false;
    parts.text_rules.replacements.emplace_back(kSpaceMark, " ");
  } else {
    auto pre_tokenizer = PreTokenizer::make(vocabulary.pre_tokenizer);
    if (!pre_tokenizer) {
      return tl::unexpected<Error>(with_context(pre_tokenizer.error(), vocabulary.source));
    }
    parts.pre_tokenizer = *std::move(pre_tokenizer);
    const SplittingRule* rule = find_splitting_rule(vocabulary.pre_tokenizer);
    if (!vocabulary.ignore_merges) vocabulary.ignore_merges = rule->ignore_merges;
    add_bos_by_default = rule->add_bos;
  }
  // A flag that asks for a token which is not named is refused in make.
  if (vocabulary.bos && vocabulary.add_bos.value_or(add_bos_by_default)) parts.prefix = {*vocabulary.bos};
  if (vocabulary.eos && vocabulary.add_eos.value_or(false)) parts.suffix = {*vocabulary.eos};
  parts.vocabulary = std::move(vocabulary);
  return make(std::move(parts));
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::make(TokenizerParts parts) {
  const Vocabulary& vocabulary = parts.vocabulary;
  CRIBLE_RETURN_IF_ERROR(check_sizes(vocabulary));
  CRIBLE_RETURN_IF_ERROR(check_named_ids(vocabulary));
  CRIBLE_TRY(const auto ids, index_texts(vocabulary));
  std::optional<Model> model;
  if (vocabulary.segmentation == Segmentation::kScoredMerges) {
    model = ScoredMerges::make(vocabulary);
  } else {
    CRIBLE_TRY(model, MergeTable::make(vocabulary, ids));
  }
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer(*std::move(model)));
  tokenizer->bos_ = vocabulary.bos;
  tokenizer->eos_ = vocabulary.eos;
  tokenizer->eot_ = vocabulary.eot;
  tokenizer->pad_ = vocabulary.pad;
  tokenizer->prefix_ = std::move(parts.prefix);
  tokenizer->suffix_ = std::move(parts.suffix);
  tokenizer->normalizer_ = std::move(parts.normalizer);
  tokenizer->pre_tokenizer_ = std::move(parts.pre_tokenizer);
  tokenizer->leading_space_ = parts.text_rules.leading_space;
  tokenizer->store_tokens(vocabulary, parts.text_rules);
  tokenizer->store_added_tokens(vocabulary);
  tokenizer->mark_ends(vocabulary);
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

void Tokenizer::store_tokens(const Vocabulary& vocabulary, const TokenTextRules& rules) {
  const size_t count = vocabulary.texts.size();
  offsets_.reserve(count + 1);
  flags_.assign(count, 0);
  offsets_.push_back(0);
  for (size_t i = 0; i < count; ++i) {
    bytes_ += bytes_of_token(vocabulary.texts[i], vocabulary.kinds[i], rules);
    offsets_.push_back(bytes_.size());
    if (is_special(vocabulary.kinds[i])) flags_[i] |= kControlFlag;
  }
  // Views into bytes_ only now that it no longer moves. Special tokens go first and so win.
  by_bytes_.reserve(count);
  const auto place_of = [&](size_t i) {
    return is_special(vocabulary.kinds[i]) ? 0 : vocabulary.kinds[i] == TokenKind::kByte ? 2 : 1;
  };
  for (const int place : {0, 1, 2}) {
    for (size_t i = 0; i < count; ++i) {
      const TokenId id = static_cast<TokenId>(i);
      if (place_of(i) == place && !token_bytes(id).empty()) by_bytes_.emplace(token_bytes(id), id);
    }
  }
  if (!vocabulary.ignore_merges.value_or(false)) return;
  whole_words_.reserve(count);
  const bool literal = !rules.byte_alphabet;
  if (literal) {
    size_t total = 0;
    for (const std::string& text : vocabulary.texts) total += text.size();
    texts_.reserve(total);  // views must not move
  }
  for (size_t i = 0; i < count; ++i) {
    if (place_of(i) != 1 || vocabulary.texts[i].empty()) continue;
    std::string_view word = token_bytes(static_cast<TokenId>(i));
    if (literal) {
      const size_t begin = texts_.size();
      texts_ += vocabulary.texts[i];
      word = std::string_view(texts_).substr(begin);
    }
    whole_words_.emplace(word, static_cast<TokenId>(i));
  }
}

void Tokenizer::store_added_tokens(const Vocabulary& vocabulary) {
  std::unordered_map<TokenId, AddedToken> traits;
  for (const AddedToken& token : vocabulary.added) traits[token.id] = token;
  for (size_t i = 0; i < vocabulary.texts.size(); ++i) {
    const TokenKind kind = vocabulary.kinds[i];
    if (!is_special(kind) && kind != TokenKind::kUserDefined) continue;
    AddedToken token{.id = static_cast<TokenId>(i)};
    if (const auto found = traits.find(token.id); found != traits.end()) token = found->second;
    const std::string& text = vocabulary.texts[i];
    if (token.normalized && !normalizer_.empty()) {
      const std::string normalized = normalizer_.apply(text);
      if (!normalized.empty()) normalized_added_.add(normalized, is_special(kind), token);
    } else if (token.normalized) {
      normalized_added_.add(text, is_special(kind), token);
    } else {
      added_.add(text, is_special(kind), token);
    }
  }
}

void Tokenizer::mark_ends(const Vocabulary& vocabulary) {
  for (const auto& id : {vocabulary.eos, vocabulary.eot, vocabulary.eom}) {
    if (id) flags_[*id] |= kEndFlag;
  }
  for (const TokenId id : vocabulary.ends) flags_[id] |= kEndFlag;
  const auto find_special = [&](std::string_view text) -> std::optional<TokenId> {
    const auto id = find_token(text);
    const bool added = id && (is_control(*id) || vocabulary.kinds[*id] == TokenKind::kUserDefined);
    return added ? id : std::nullopt;
  };
  for (const std::string_view text : kEndOfTurnTexts) {
    const auto id = find_special(text);
    if (!id) continue;
    flags_[*id] |= kEndFlag;
    if (!eot_) eot_ = id;
  }
  for (const std::string_view text : kEndOfTextTexts) {
    if (const auto id = find_special(text)) flags_[*id] |= kEndFlag;
  }
}

uint8_t Tokenizer::flags(TokenId id) const {
  CHECK(id >= 0 && static_cast<size_t>(id) < flags_.size(), "token {} of {}", id, flags_.size());
  return flags_[static_cast<size_t>(id)];
}

std::string_view Tokenizer::token_bytes(TokenId id) const {
  CHECK(id >= 0 && static_cast<size_t>(id) < flags_.size(), "token {} of {}", id, flags_.size());
  const size_t place = static_cast<size_t>(id);
  return std::string_view(bytes_).substr(offsets_[place], offsets_[place + 1] - offsets_[place]);
}

std::string Tokenizer::token_text(TokenId id) const {
  std::string text;
  Utf8Stream stream;
  stream.push(token_bytes(id), text);
  stream.flush(text);
  return text;
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string text;
  Utf8Stream stream;
  bool at_start = leading_space_ != LeadingSpace::kKeep;
  for (const TokenId id : ids) {
    if (skip_special && is_control(id)) continue;
    std::string_view bytes = token_bytes(id);
    if (at_start && !bytes.empty()) {
      const size_t spaces = std::min(bytes.find_first_not_of(' '), bytes.size());
      bytes.remove_prefix(leading_space_ == LeadingSpace::kDropOne ? std::min<size_t>(spaces, 1) : spaces);
      at_start = false;
    }
    stream.push(bytes, text);
  }
  stream.flush(text);
  return text;
}

Status Tokenizer::check_ids(std::span<const TokenId> ids) const {
  for (size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || ids[i] >= vocabulary_size()) {
      return fail(ErrorCode::kInvalidArgument, "token {} at place {} is not in the vocabulary (0 to {})",
                  ids[i], i, vocabulary_size() - 1);
    }
  }
  return {};
}

std::optional<TokenId> Tokenizer::find_token(std::string_view bytes) const {
  const auto found = by_bytes_.find(bytes);
  return found == by_bytes_.end() ? std::nullopt : std::optional<TokenId>(found->second);
}

// One call of encode: from the text through added tokens, normaliser and words to ids.
class Tokenizer::Encoding {
 public:
  Encoding(const Tokenizer& tokenizer, bool parse_special, size_t expected_bytes, std::vector<TokenId>& ids)
      : tokenizer_(tokenizer), parse_special_(parse_special), ids_(ids) {
    if (const auto* merges = std::get_if<MergeTable>(&tokenizer.model_)) {
      bpe_.emplace(*merges, expected_bytes, ids);
    } else {
      scored_ = &std::get<ScoredMerges>(tokenizer.model_);
    }
  }

  void encode(std::string_view text) {
    cut_at_tokens(tokenizer_.added_, text,
                  [&](std::string_view piece, bool first) { encode_raw(piece, first); });
  }

 private:
  // Appends the added tokens' ids; use(piece, is the text's beginning) for what stands between.
  template <typename Use>
  void cut_at_tokens(const AddedTokens& added, std::string_view text, const Use& use) {
    for (size_t at = 0; at < text.size();) {
      AddedTokens::Match match = added.find(text, at, parse_special_);
      if (match.end == match.begin) match.begin = match.end = text.size();
      if (match.begin > at) use(text.substr(at, match.begin - at), at == 0);
      if (match.token >= 0) ids_.push_back(match.token);
      at = match.end;
    }
  }

  void encode_raw(std::string_view piece, bool first) {
    if (!tokenizer_.normalizer_.empty())
      piece = list_.owned.emplace_back(tokenizer_.normalizer_.apply(piece));
    cut_at_tokens(tokenizer_.normalized_added_, piece,
                  [&](std::string_view part, bool first_part) { encode_words(part, first && first_part); });
  }

  void encode_words(std::string_view piece, bool first) {
    list_.words.clear();
    tokenizer_.pre_tokenizer_.split(piece, first, list_);
    for (const std::string_view word : list_.words) {
      if (const auto whole = tokenizer_.whole_words_.find(word); whole != tokenizer_.whole_words_.end()) {
        ids_.push_back(whole->second);
      } else if (bpe_) {
        bpe_->encode(word);
      } else {
        scored_->encode(word, queue_, ids_);
      }
    }
  }

  const Tokenizer& tokenizer_;
  const bool parse_special_;
  std::vector<TokenId>& ids_;
  WordList list_;
  std::optional<BpeSession> bpe_;
  const ScoredMerges* scored_ = nullptr;
  MergeQueue queue_;
};

std::vector<TokenId> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  CHECK(text.size() < size_t{1} << 31, "text of {} bytes", text.size());
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = replace_invalid_bytes(text);
    text = repaired;
  }
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3 + 2);
  if (options.add_special) ids.assign(prefix_.begin(), prefix_.end());
  Encoding(*this, options.parse_special, text.size(), ids).encode(text);
  if (options.add_special) ids.insert(ids.end(), suffix_.begin(), suffix_.end());
  return ids;
}

}  // namespace crible
