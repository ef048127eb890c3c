#include "ops/sample/token_history.h"

namespace crible {

TokenHistory::TokenHistory(std::span<const TokenId> prompt, int64_t max_output)
    : places_(prompt.size() + static_cast<size_t>(max_output)) {
  counts_.reserve(prompt.size() + static_cast<size_t>(max_output));
  for (const TokenId token : prompt) entry(token);
}

TokenCount& TokenHistory::entry(TokenId token) {
  int32_t& place = places_[token];
  if (place < 0) {
    place = static_cast<int32_t>(counts_.size());
    counts_.push_back({token, 0});
  }
  return counts_[static_cast<size_t>(place)];
}

}  // namespace crible
