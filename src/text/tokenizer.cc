#include "text/tokenizer.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "text/byte_alphabet.h"
#include "text/gguf_vocabulary.h"
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

// "<0x0A>" -> 10
std::optional<char> parse_byte_token(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text.back() != '>') return std::nullopt;
  unsigned value = 0;
  const char* end = text.data() + 5;
  const auto parsed = std::from_chars(text.data() + 3, end, value, 16);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return static_cast<char>(value);
}

std::string bytes_of_token(const std::string& text, TokenKind kind) {
  if (kind == TokenKind::kByte) {
    if (const auto byte = parse_byte_token(text)) return std::string(1, *byte);
  }
  if (kind == TokenKind::kNormal) {
    // Files exist whose added tokens are marked normal: text outside the alphabet is literal.
    if (auto bytes = bytes_from_alphabet(text)) return *std::move(bytes);
  }
  return text;
}

Status check_sizes(const Vocabulary& vocabulary) {
  if (vocabulary.texts.empty() || vocabulary.texts.size() > kMaxTokens) {
    return fail(ErrorCode::kCorrupt, "{}: {} tokens in the vocabulary, expected 1 to {}", vocabulary.source,
                vocabulary.texts.size(), kMaxTokens);
  }
  if (vocabulary.kinds.size() != vocabulary.texts.size()) {
    return fail(ErrorCode::kCorrupt, "{}: {} token kinds for {} tokens", vocabulary.source,
                vocabulary.kinds.size(), vocabulary.texts.size());
  }
  return {};
}

Status check_named_ids(const Vocabulary& vocabulary) {
  const std::pair<const char*, std::optional<TokenId>> named[] = {
      {"bos", vocabulary.bos}, {"eos", vocabulary.eos}, {"eot", vocabulary.eot},
      {"eom", vocabulary.eom}, {"pad", vocabulary.pad}, {"unknown", vocabulary.unknown},
  };
  for (const auto& [name, id] : named) {
    if (id && (*id < 0 || static_cast<size_t>(*id) >= vocabulary.texts.size())) {
      return fail(ErrorCode::kCorrupt, "{}: the {} token is {}, but the vocabulary has ids 0 to {}",
                  vocabulary.source, name, *id, vocabulary.texts.size() - 1);
    }
  }
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
  CRIBLE_TRY(const Vocabulary vocabulary, read_gguf_vocabulary(file));
  return from_vocabulary(vocabulary);
}

Result<std::shared_ptr<const Tokenizer>> Tokenizer::from_vocabulary(const Vocabulary& vocabulary) {
  CRIBLE_RETURN_IF_ERROR(check_sizes(vocabulary));
  CRIBLE_RETURN_IF_ERROR(check_named_ids(vocabulary));
  auto pre_tokenizer = PreTokenizer::make(vocabulary.pre_tokenizer);
  if (!pre_tokenizer) {
    return tl::unexpected<Error>(with_context(pre_tokenizer.error(), vocabulary.source));
  }
  CRIBLE_TRY(const auto ids, index_texts(vocabulary));
  CRIBLE_TRY(MergeTable merges, MergeTable::make(vocabulary, ids));
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer(std::move(merges), *std::move(pre_tokenizer)));
  tokenizer->bos_ = vocabulary.bos;
  tokenizer->eos_ = vocabulary.eos;
  tokenizer->eot_ = vocabulary.eot;
  tokenizer->pad_ = vocabulary.pad;
  tokenizer->add_bos_ =
      vocabulary.add_bos.value_or(vocabulary.bos && tokenizer->pre_tokenizer_.add_bos_by_default());
  tokenizer->add_eos_ = vocabulary.add_eos.value_or(false);
  tokenizer->store_tokens(vocabulary);
  tokenizer->mark_ends(vocabulary);
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

void Tokenizer::store_tokens(const Vocabulary& vocabulary) {
  const size_t count = vocabulary.texts.size();
  offsets_.reserve(count + 1);
  flags_.assign(count, 0);
  offsets_.push_back(0);
  for (size_t i = 0; i < count; ++i) {
    const TokenKind kind = vocabulary.kinds[i];
    bytes_ += bytes_of_token(vocabulary.texts[i], kind);
    offsets_.push_back(bytes_.size());
    const TokenId id = static_cast<TokenId>(i);
    if (is_special(kind)) flags_[i] |= kControlFlag;
    if (is_special(kind) || kind == TokenKind::kUserDefined) special_.add(vocabulary.texts[i], id);
    if (kind == TokenKind::kUserDefined) user_defined_.add(vocabulary.texts[i], id);
  }
  // Views into bytes_ only now that it no longer moves. Special tokens go first and so win.
  by_bytes_.reserve(count);
  for (const bool special : {true, false}) {
    for (size_t i = 0; i < count; ++i) {
      const TokenId id = static_cast<TokenId>(i);
      if (is_control(id) == special) by_bytes_.emplace(token_bytes(id), id);
    }
  }
}

void Tokenizer::mark_ends(const Vocabulary& vocabulary) {
  for (const auto& id : {vocabulary.eos, vocabulary.eot, vocabulary.eom}) {
    if (id) flags_[*id] |= kEndFlag;
  }
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
  return decode({&id, 1}, false);
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool skip_special) const {
  std::string text;
  Utf8Stream stream;
  for (const TokenId id : ids) {
    if (skip_special && is_control(id)) continue;
    stream.push(token_bytes(id), text);
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

std::vector<TokenId> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  CHECK(text.size() < size_t{1} << 31, "text of {} bytes", text.size());
  std::string repaired;
  if (!is_valid_utf8(text)) {
    repaired = replace_invalid_bytes(text);
    text = repaired;
  }
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3 + 2);
  if (options.add_special && add_bos_) ids.push_back(*bos_);
  BpeSession session(merges_, text.size(), ids);
  std::vector<std::string_view> words;
  const TokenTrie& trie = options.parse_special ? special_ : user_defined_;
  for (size_t at = 0; at < text.size();) {
    TokenTrie::Match match = trie.find(text, at);
    if (match.length == 0) match.begin = text.size();
    words.clear();
    pre_tokenizer_.split(text.substr(at, match.begin - at), words);
    for (const std::string_view word : words) {
      const auto whole = pre_tokenizer_.ignore_merges() ? find_token(word) : std::nullopt;
      if (whole && !is_control(*whole)) {
        ids.push_back(*whole);
      } else {
        session.encode(word);
      }
    }
    if (match.length > 0) ids.push_back(match.token);
    at = match.begin + match.length;
  }
  if (options.add_special && add_eos_) ids.push_back(*eos_);
  return ids;
}

}  // namespace crible
