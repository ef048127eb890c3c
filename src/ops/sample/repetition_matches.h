// DRY: where the end of a sequence repeats what stood earlier, and which tokens would prolong the repetition.
// A repetition that ends before token t and is L >= allowed_length long takes multiplier × base^(L - allowed_length)
// off t's logit, the longest counts. It reaches neither over a sequence breaker nor out of the last `range` tokens,
// and a breaker is never penalised.
// The prompt costs one linear pass; each token after it costs the earlier occurrences of that token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/sample/logit_adjustments.h"
#include "ops/sample/token_table.h"

namespace crible {

struct RepetitionLimits {
  float multiplier = 0;
  float base = 1.75f;
  int64_t allowed_length = 2;
  int64_t range = -1;  // -1: everything
};

class RepetitionMatches {
 public:
  // breakers: copied. max_output: how many tokens append() will see at most; it allocates nothing.
  RepetitionMatches(const RepetitionLimits& limits, std::span<const TokenId> breakers,
                    std::span<const TokenId> prompt, int64_t max_output);

  void append(TokenId token);
  // What to add to which logits, each token once; valid until the next append().
  std::span<const AddedLogit> penalties() const { return penalties_; }

 private:
  // tokens_[place] was the same as the last token of all, after `length` - 1 equal ones before each.
  struct Match {
    int32_t place;
    int32_t length;
  };
  bool is_breaker(TokenId token) const;
  void add(TokenId token);
  void match_prompt();
  void penalise();

  RepetitionLimits limits_;
  std::vector<TokenId> breakers_;  // ascending
  std::vector<TokenId> tokens_;
  std::vector<int32_t> before_;    // place of the token's previous occurrence, -1 = none
  TokenTable latest_;              // place of each token's latest occurrence
  std::vector<Match> matches_;     // of the last token, by descending place
  std::vector<Match> former_;      // of the token before
  std::vector<AddedLogit> penalties_;
};

}  // namespace crible
