#include "ops/sample/repetition_matches.h"

#include <algorithm>
#include <cmath>

namespace crible {
namespace {

// A longer repetition costs no more than this: enough to make a token impossible beside any other.
constexpr double kLargestPenalty = 1e30;

}  // namespace

RepetitionMatches::RepetitionMatches(const RepetitionLimits& limits, std::span<const TokenId> breakers,
                                     std::span<const TokenId> prompt, int64_t max_output)
    : limits_(limits),
      breakers_(breakers.begin(), breakers.end()),
      latest_(prompt.size() + static_cast<size_t>(max_output)) {
  std::sort(breakers_.begin(), breakers_.end());
  const size_t longest = prompt.size() + static_cast<size_t>(max_output);
  tokens_.reserve(longest);
  before_.reserve(longest);
  matches_.reserve(longest);
  former_.reserve(longest);
  penalties_.reserve(longest);
  for (const TokenId token : prompt) add(token);
  match_prompt();
  penalise();
}

void RepetitionMatches::append(TokenId token) {
  add(token);
  std::swap(matches_, former_);
  matches_.clear();
  if (!is_breaker(token)) {
    // Both lists descend: one walk joins each occurrence with the match that ends just before it.
    auto ended_before = former_.begin();
    for (int32_t place = before_.back(); place >= 0; place = before_[static_cast<size_t>(place)]) {
      while (ended_before != former_.end() && ended_before->place > place - 1) ++ended_before;
      const bool prolongs = ended_before != former_.end() && ended_before->place == place - 1;
      matches_.push_back({place, prolongs ? ended_before->length + 1 : 1});
    }
  }
  penalise();
}

bool RepetitionMatches::is_breaker(TokenId token) const {
  return std::binary_search(breakers_.begin(), breakers_.end(), token);
}

void RepetitionMatches::add(TokenId token) {
  int32_t& latest = latest_[token];
  before_.push_back(latest);
  latest = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
}

// The Z function (Gusfield 1997) of the reversed prompt, in which a breaker equals nothing.
void RepetitionMatches::match_prompt() {
  const size_t n = tokens_.size();
  const auto reversed = [&](size_t i) { return tokens_[n - 1 - i]; };
  std::vector<int32_t> z(n, 0);
  size_t left = 0, right = 0;  // the window [left, right) equals the beginning
  for (size_t i = 1; i < n; ++i) {
    size_t length = i < right ? std::min(right - i, static_cast<size_t>(z[i - left])) : 0;
    while (i + length < n && reversed(i + length) == reversed(length) && !is_breaker(reversed(length))) ++length;
    z[i] = static_cast<int32_t>(length);
    if (i + length > right) {
      left = i;
      right = i + length;
    }
    if (length > 0) matches_.push_back({static_cast<int32_t>(n - 1 - i), z[i]});
  }
}

void RepetitionMatches::penalise() {
  penalties_.clear();
  const auto n = static_cast<int64_t>(tokens_.size());
  const int64_t first = limits_.range < 0 ? 0 : std::max<int64_t>(0, n - limits_.range);
  for (const Match& match : matches_) {
    const int64_t length = std::min<int64_t>(match.length, match.place - first + 1);
    if (length < limits_.allowed_length || length < 1) continue;
    const TokenId next = tokens_[static_cast<size_t>(match.place) + 1];
    if (is_breaker(next)) continue;
    const double penalty = static_cast<double>(limits_.multiplier) *
                           std::pow(static_cast<double>(limits_.base), static_cast<double>(length - limits_.allowed_length));
    penalties_.push_back({next, static_cast<float>(-std::min(penalty, kLargestPenalty))});
  }
  if (penalties_.size() < 2) return;
  // The largest of each token stays.
  std::sort(penalties_.begin(), penalties_.end(), [](const AddedLogit& a, const AddedLogit& b) {
    return a.id != b.id ? a.id < b.id : a.value < b.value;
  });
  const auto end = std::unique(penalties_.begin(), penalties_.end(),
                               [](const AddedLogit& a, const AddedLogit& b) { return a.id == b.id; });
  penalties_.erase(end, penalties_.end());
}

}  // namespace crible
