#include "text/bpe.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace crible {
namespace {

constexpr uint64_t kEmptySlot = UINT64_MAX;  // ids are not negative, so no pair looks like this

uint64_t pair_key(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Words up to here are merged by scanning: quadratic in a small constant, and faster than a queue.
constexpr size_t kShortWordBytes = 24;
constexpr size_t kRememberedWords = 4096;
constexpr size_t kRememberFromBytes = 1024;

// A character's bytes as one number; UTF-8 has at most four.
uint32_t character_key(std::string_view character) {
  uint32_t key = 0;
  for (const char c : character) key = key << 8 | static_cast<uint8_t>(c);
  return key;
}

}  // namespace

// Characters that cannot be expressed, one after the other, as Hugging Face tokenizers writes them:
// the unknown token appears when something known follows (not byte tokens) or the word ends.
class MergeTable::UnknownRun {
 public:
  UnknownRun(const MergeTable& table, std::span<TokenId> symbols) : table_(table), symbols_(symbols) {}

  void add_known(TokenId token) {
    flush();
    add(token);
  }
  void add(TokenId token) { symbols_[count_++] = token; }
  void add_missing() {
    if (table_.unknown_ == kNoToken) {
      if (!table_.join_over_missing_) add(kNoToken);
      return;
    }
    if (pending_ && !table_.fuse_unknown_) add(table_.unknown_);
    pending_ = true;
  }
  size_t finish() {
    flush();
    return count_;
  }

 private:
  void flush() {
    if (pending_) add(table_.unknown_);
    pending_ = false;
  }

  const MergeTable& table_;
  std::span<TokenId> symbols_;
  size_t count_ = 0;
  bool pending_ = false;
};

void MergeTable::find_single_tokens(const Vocabulary& vocabulary,
                                    const std::unordered_map<std::string_view, TokenId>& ids) {
  by_character_ = vocabulary.segmentation == Segmentation::kCharacterBpe;
  fuse_unknown_ = vocabulary.fuse_unknown;
  join_over_missing_ = vocabulary.join_over_missing;
  unknown_ = vocabulary.unknown_piece.value_or(kNoToken);
  byte_tokens_.fill(kNoToken);
  ascii_tokens_.fill(kNoToken);
  // A token that steers the model never comes from letters.
  const auto steers = [&](TokenId id) {
    return !vocabulary.kinds.empty() && vocabulary.kinds[static_cast<size_t>(id)] == TokenKind::kControl;
  };
  for (unsigned byte = 0; byte < 256; ++byte) {
    if (by_character_ && !vocabulary.byte_fallback) break;
    const char raw = static_cast<char>(byte);
    const auto found =
        ids.find(by_character_ ? fmt::format("<0x{:02X}>", byte) : bytes_to_alphabet({&raw, 1}));
    if (found != ids.end() && !steers(found->second)) byte_tokens_[byte] = found->second;
  }
  if (!by_character_) return;
  for (const auto& [text, id] : ids) {
    if (utf8_sequence_length(text) != text.size() || steers(id)) continue;
    const uint32_t key = character_key(text);
    if (key < 128) {
      ascii_tokens_[key] = id;
    } else {
      character_tokens_.emplace(key, id);
    }
  }
}

Result<MergeTable> MergeTable::make(const Vocabulary& vocabulary,
                                    const std::unordered_map<std::string_view, TokenId>& ids) {
  MergeTable table;
  table.find_single_tokens(vocabulary, ids);
  const size_t slot_count = std::bit_ceil(std::max<size_t>(vocabulary.merges.size() * 2, 16));
  table.slots_.assign(slot_count, Slot{kEmptySlot, kNoMergeRank, kNoToken});
  table.shift_ = 64 - std::countr_zero(slot_count);
  std::string merged;
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const auto& [left, right] = vocabulary.merges[rank];
    merged = left + right;
    TokenId tokens[3];
    const std::string* names[3] = {&left, &right, &merged};
    for (int i = 0; i < 3; ++i) {
      const auto found = ids.find(*names[i]);
      if (found == ids.end()) {
        return fail(ErrorCode::kCorrupt,
                    "{}: merge {} (\"{}\" + \"{}\") needs the token \"{}\", which is not in the "
                    "vocabulary; convert the model again",
                    vocabulary.source, rank, left.substr(0, 64), right.substr(0, 64),
                    names[i]->substr(0, 64));
      }
      tokens[i] = found->second;
    }
    const uint64_t key = pair_key(tokens[0], tokens[1]);
    size_t slot = table.home_slot(key);
    while (table.slots_[slot].pair != kEmptySlot && table.slots_[slot].pair != key) {
      slot = (slot + 1) & (slot_count - 1);
    }
    // A pair listed twice keeps its better rank.
    if (table.slots_[slot].pair == kEmptySlot) {
      table.slots_[slot] = {key, static_cast<uint32_t>(rank), tokens[2]};
    }
  }
  return table;
}

size_t MergeTable::home_slot(uint64_t pair) const {
  // Fibonacci hashing; the halves are mixed first because ids are small.
  return (pair ^ pair >> 29) * 0x9E3779B97F4A7C15ull >> shift_;
}

Merge MergeTable::find(TokenId left, TokenId right) const {
  if (left < 0 || right < 0) return {};
  const uint64_t key = pair_key(left, right);
  for (size_t slot = home_slot(key);; slot = (slot + 1) & (slots_.size() - 1)) {
    const Slot& entry = slots_[slot];
    if (entry.pair == key) return {entry.rank, entry.token};
    if (entry.pair == kEmptySlot) return {};
  }
}

TokenId MergeTable::character_token(std::string_view character) const {
  const uint32_t key = character_key(character);
  if (key < 128) return ascii_tokens_[key];
  const auto found = character_tokens_.find(key);
  return found == character_tokens_.end() ? kNoToken : found->second;
}

size_t MergeTable::start(std::string_view word, std::span<TokenId> symbols) const {
  UnknownRun run(*this, symbols);
  if (!by_character_) {
    for (const char c : word) {
      const TokenId token = byte_tokens_[static_cast<uint8_t>(c)];
      token == kNoToken ? run.add_missing() : run.add_known(token);
    }
    return run.finish();
  }
  while (!word.empty()) {
    const std::string_view character = word.substr(0, std::max<size_t>(utf8_sequence_length(word), 1));
    word.remove_prefix(character.size());
    if (const TokenId token = character_token(character); token != kNoToken) {
      run.add_known(token);
      continue;
    }
    const auto has_byte = [&](char c) { return byte_tokens_[static_cast<uint8_t>(c)] != kNoToken; };
    if (std::ranges::all_of(character, has_byte)) {
      for (const char c : character) run.add(byte_tokens_[static_cast<uint8_t>(c)]);
    } else {
      run.add_missing();
    }
  }
  return run.finish();
}

BpeSession::BpeSession(const MergeTable& merges, size_t expected_bytes, std::vector<TokenId>& out)
    : merges_(merges), out_(out) {
  if (expected_bytes >= kRememberFromBytes) remembered_.resize(kRememberedWords);
}

Merge BpeSession::look_up(TokenId left, TokenId right) {
  ++steps_;
  return merges_.find(left, right);
}

void BpeSession::encode(std::string_view word) {
  if (word.size() > kShortWordBytes) {
    merge_long(word);
    return;
  }
  if (remembered_.empty() || word.size() < 2) {
    merge_short(word);
    return;
  }
  Remembered& entry = remembered_[std::hash<std::string_view>{}(word) & (kRememberedWords - 1)];
  if (entry.size == word.size() && std::equal(word.begin(), word.end(), entry.data)) {
    for (size_t i = 0; i < entry.token_count; ++i) out_.push_back(out_[entry.first_token + i]);
    return;
  }
  const size_t first = out_.size();
  merge_short(word);
  entry = {word.data(), static_cast<uint32_t>(word.size()), static_cast<uint32_t>(out_.size() - first),
           first};
}

void BpeSession::merge_short(std::string_view word) {
  std::array<TokenId, kShortWordBytes> tokens;
  std::array<Merge, kShortWordBytes> merges;  // merges[i]: of tokens[i] and tokens[i + 1]
  size_t count = merges_.start(word, tokens);
  for (size_t i = 0; i + 1 < count; ++i) merges[i] = look_up(tokens[i], tokens[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == kNoMergeRank) break;
    tokens[best] = merges[best].token;
    std::copy(tokens.begin() + best + 2, tokens.begin() + count, tokens.begin() + best + 1);
    if (best + 2 < count) {
      std::copy(merges.begin() + best + 2, merges.begin() + count - 1, merges.begin() + best + 1);
    }
    --count;
    if (best > 0) merges[best - 1] = look_up(tokens[best - 1], tokens[best]);
    if (best + 1 < count) merges[best] = look_up(tokens[best], tokens[best + 1]);
  }
  for (size_t i = 0; i < count; ++i) {
    if (tokens[i] != kNoToken) out_.push_back(tokens[i]);
  }
}

void BpeSession::merge_long(std::string_view word) {
  CHECK(word.size() < MergeSymbol::kEnd);
  symbols_.resize(word.size());
  const size_t count = merges_.start(word, symbols_);
  queue_.clear();
  for (size_t i = 0; i < count; ++i) queue_.add(symbols_[i], 0, 0);
  queue_.merge_all([&](const MergeSymbol& left, const MergeSymbol& right) {
    return merges_.find(left.token, right.token);
  });
  queue_.for_each([&](const MergeSymbol& symbol) {
    if (symbol.token != kNoToken) out_.push_back(symbol.token);
  });
}

}  // namespace crible
