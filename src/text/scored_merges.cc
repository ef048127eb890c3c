#include "text/scored_merges.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace crible {
namespace {

// Ranks that order as the scores do, the highest score first.
uint32_t rank_of_score(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 becomes 0
  const uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  return ~ascending;
}

}  // namespace

ScoredMerges ScoredMerges::make(const Vocabulary& vocabulary) {
  ScoredMerges table;
  table.byte_tokens_.fill(kNoToken);
  table.unknown_ = vocabulary.unknown.value_or(kNoToken);
  size_t total = 0;
  for (const std::string& text : vocabulary.texts) total += text.size();
  table.bytes_.reserve(total);  // views must not move
  table.pieces_.reserve(vocabulary.texts.size());
  for (size_t i = 0; i < vocabulary.texts.size(); ++i) {
    const std::string& text = vocabulary.texts[i];
    const TokenId id = static_cast<TokenId>(i);
    const TokenKind kind = vocabulary.kinds[i];
    if (kind == TokenKind::kByte) {
      if (const auto byte = parse_byte_token(text)) table.byte_tokens_[*byte] = id;
    }
    // No merge makes a token that steers the model, whatever a user writes.
    if (kind != TokenKind::kNormal && kind != TokenKind::kUserDefined) continue;
    const size_t begin = table.bytes_.size();
    table.bytes_.insert(table.bytes_.end(), text.begin(), text.end());
    table.pieces_.emplace(std::string_view(table.bytes_.data() + begin, text.size()),
                          Piece{id, rank_of_score(vocabulary.scores[i])});
    table.longest_piece_ = std::max(table.longest_piece_, text.size());
  }
  return table;
}

const ScoredMerges::Piece* ScoredMerges::find(std::string_view text) const {
  if (text.size() > longest_piece_) return nullptr;
  const auto found = pieces_.find(text);
  return found == pieces_.end() ? nullptr : &found->second;
}

void ScoredMerges::encode(std::string_view word, MergeQueue& queue, std::vector<TokenId>& out) const {
  CHECK(word.size() < MergeSymbol::kEnd);
  queue.clear();
  for (size_t at = 0; at < word.size();) {
    const size_t length = std::max<size_t>(utf8_sequence_length(word.substr(at)), 1);
    const Piece* piece = find(word.substr(at, length));
    queue.add(piece == nullptr ? kNoToken : piece->token, static_cast<uint32_t>(at),
              static_cast<uint32_t>(at + length));
    at += length;
  }
  queue.merge_all([&](const MergeSymbol& left, const MergeSymbol& right) {
    const Piece* piece = find(word.substr(left.begin, right.end - left.begin));
    return piece == nullptr ? Merge{} : Merge{piece->rank, piece->token};
  });
  queue.for_each([&](const MergeSymbol& symbol) {
    if (symbol.token != kNoToken) {
      out.push_back(symbol.token);
      return;
    }
    const std::string_view character = word.substr(symbol.begin, symbol.end - symbol.begin);
    const auto has_byte = [&](char c) { return byte_tokens_[static_cast<uint8_t>(c)] != kNoToken; };
    if (std::ranges::all_of(character, has_byte)) {
      for (const char c : character) out.push_back(byte_tokens_[static_cast<uint8_t>(c)]);
    } else if (unknown_ != kNoToken) {
      out.push_back(unknown_);
    }
  });
}

}  // namespace crible
