#include "text/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/check.h"
#include "text/byte_alphabet.h"

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

constexpr uint32_t kEnd = UINT32_MAX;  // no neighbour

}  // namespace

Result<MergeTable> MergeTable::make(const Vocabulary& vocabulary,
                                    const std::unordered_map<std::string_view, TokenId>& ids) {
  MergeTable table;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char raw = static_cast<char>(byte);
    const auto found = ids.find(bytes_to_alphabet({&raw, 1}));
    table.byte_tokens_[byte] = found == ids.end() ? kNoToken : found->second;
  }
  const size_t slot_count = std::bit_ceil(std::max<size_t>(vocabulary.merges.size() * 2, 16));
  table.slots_.assign(slot_count, Slot{kEmptySlot, kNoRank, kNoToken});
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

MergeTable::Merge MergeTable::find(TokenId left, TokenId right) const {
  if (left < 0 || right < 0) return {};
  const uint64_t key = pair_key(left, right);
  for (size_t slot = home_slot(key);; slot = (slot + 1) & (slots_.size() - 1)) {
    const Slot& entry = slots_[slot];
    if (entry.pair == key) return {entry.rank, entry.token};
    if (entry.pair == kEmptySlot) return {};
  }
}

BpeSession::BpeSession(const MergeTable& merges, size_t expected_bytes, std::vector<TokenId>& out)
    : merges_(merges), out_(out) {
  if (expected_bytes >= kRememberFromBytes) remembered_.resize(kRememberedWords);
}

MergeTable::Merge BpeSession::look_up(TokenId left, TokenId right) {
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
  std::array<MergeTable::Merge, kShortWordBytes> merges;  // merges[i]: of tokens[i] and tokens[i + 1]
  size_t count = word.size();
  for (size_t i = 0; i < count; ++i) tokens[i] = merges_.byte_token(static_cast<uint8_t>(word[i]));
  for (size_t i = 0; i + 1 < count; ++i) merges[i] = look_up(tokens[i], tokens[i + 1]);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == MergeTable::kNoRank) break;
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
    if (tokens[i] != MergeTable::kNoToken) out_.push_back(tokens[i]);
  }
}

void BpeSession::rank_pair(uint32_t left) {
  Symbol& symbol = symbols_[left];
  symbol.rank = MergeTable::kNoRank;
  if (symbol.next == kEnd) return;
  symbol.rank = look_up(symbol.token, symbols_[symbol.next].token).rank;
}

void BpeSession::merge_long(std::string_view word) {
  CHECK(word.size() < kEnd);
  const uint32_t count = static_cast<uint32_t>(word.size());
  symbols_.resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    symbols_[i] = {merges_.byte_token(static_cast<uint8_t>(word[i])), i == 0 ? kEnd : i - 1,
                   i + 1 == count ? kEnd : i + 1, MergeTable::kNoRank};
  }
  queue_.clear();
  const auto entry = [&](uint32_t position) {
    return static_cast<uint64_t>(symbols_[position].rank) << 32 | position;
  };
  for (uint32_t i = 0; i < count; ++i) {
    rank_pair(i);
    if (symbols_[i].rank != MergeTable::kNoRank) queue_.push_back(entry(i));
  }
  std::make_heap(queue_.begin(), queue_.end(), std::greater<>());
  const auto enqueue = [&](uint32_t position) {
    rank_pair(position);
    if (symbols_[position].rank == MergeTable::kNoRank) return;
    queue_.push_back(entry(position));
    std::push_heap(queue_.begin(), queue_.end(), std::greater<>());
    ++steps_;
  };
  while (!queue_.empty()) {
    std::pop_heap(queue_.begin(), queue_.end(), std::greater<>());
    const uint64_t top = queue_.back();
    queue_.pop_back();
    ++steps_;
    const uint32_t left = static_cast<uint32_t>(top);
    // A pair that changed since it was queued has another rank: ranks and pairs are one to one.
    if (symbols_[left].rank != static_cast<uint32_t>(top >> 32)) continue;
    Symbol& symbol = symbols_[left];
    const Symbol right = symbols_[symbol.next];
    symbol.token = merges_.find(symbol.token, right.token).token;
    symbols_[symbol.next].rank = MergeTable::kNoRank;
    symbol.next = right.next;
    if (right.next != kEnd) symbols_[right.next].previous = left;
    enqueue(left);
    if (symbol.previous != kEnd) enqueue(symbol.previous);
  }
  for (uint32_t i = 0; i != kEnd; i = symbols_[i].next) {
    if (symbols_[i].token != MergeTable::kNoToken) out_.push_back(symbols_[i].token);
  }
}

}  // namespace crible
