// Which tokens a sequence holds and how often it has said each, kept up to date token by token, so that penalties
// cost what the distinct tokens are, not the length. Sized at construction; append() allocates nothing.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/sample/logit_adjustments.h"
#include "ops/sample/token_table.h"

namespace crible {

class TokenHistory {
 public:
  // max_output: how many tokens append() will see at most.
  TokenHistory(std::span<const TokenId> prompt, int64_t max_output);

  void append(TokenId token) { entry(token).in_output += 1; }
  // Valid until the next append().
  std::span<const TokenCount> counts() const { return counts_; }

 private:
  TokenCount& entry(TokenId token);

  std::vector<TokenCount> counts_;  // in the order of first occurrence
  TokenTable places_;               // of tokens in counts_
};

}  // namespace crible
