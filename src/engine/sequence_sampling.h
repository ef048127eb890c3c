// What a sequence carries for sampling beyond plain numbers: the history that penalties look at, and the
// log-probabilities that its next event reports. Exists only for sequences that ask for such things, is made whole
// on the thread that submits, and allocates nothing afterwards. It outlasts pre-emption and reconfiguration: what
// was drawn or scored once is not forgotten. Engine thread only, once added.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/request.h"
#include "ops/sample/repetition_matches.h"
#include "ops/sample/sample.h"
#include "ops/sample/token_history.h"

namespace crible {

class SequenceSampling {
 public:
  // Null if the parameters ask for nothing that needs it. `params` must outlive the result. sequence: of which this is.
  static std::unique_ptr<SequenceSampling> make(const SamplingParams& params, std::span<const TokenId> prompt,
                                                SeqId sequence);

  // For the draw of the output token with this index; null if nothing is to be adjusted.
  const LogitAdjustments* adjustments(int64_t output_tokens);
  // Whether the next draw must wait until the host knows the last one's token. DRY looks for it in the whole sequence;
  // penalties only count it, which a runner that keeps histories (step_runner.h) does itself. Not for logit_bias,
  // min_tokens and log-probabilities; stop tokens are looked at when they are delivered.
  bool needs_last_token(bool histories_kept) const { return repetitions_ || (history_ && !histories_kept); }
  // A token was drawn, with as many log-probabilities as the parameters ask for at `logprobs`.
  void append(TokenId token, const TokenLogprob* logprobs);
  std::span<const TokenLogprob> logprobs() const { return {logprobs_.data(), num_logprobs_}; }

  // Prompt positions whose logits are still wanted: row p scores the prompt's token p + 1.
  int64_t first_unscored() const { return scored_; }
  int64_t scorable_rows() const { return scorable_rows_; }
  bool scored_all() const { return scored_ == scorable_rows_; }
  // Keeps the log-probabilities of the next row.
  void score(const TokenLogprob* logprobs);
  std::span<const TokenLogprob> prompt_logprobs() const { return prompt_logprobs_; }

 private:
  SequenceSampling(const SamplingParams& params, std::span<const TokenId> prompt, SeqId sequence);

  const SamplingParams& params_;
  std::optional<TokenHistory> history_;
  std::optional<RepetitionMatches> repetitions_;
  bool adjusts_always_ = false;  // by bias or by penalties, beyond min_tokens
  LogitAdjustments adjustments_;
  size_t num_logprobs_ = 0;
  std::array<TokenLogprob, 1 + kMaxLogprobs> logprobs_;
  int64_t scorable_rows_ = 0;
  int64_t scored_ = 0;
  std::vector<TokenLogprob> prompt_logprobs_;
};

}  // namespace crible
