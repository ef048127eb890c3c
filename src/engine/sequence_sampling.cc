#include "engine/sequence_sampling.h"

#include <algorithm>

namespace crible {
namespace {

bool has_penalties(const SamplingParams& params) {
  return params.repetition_penalty != 1.0f || params.presence_penalty != 0 || params.frequency_penalty != 0;
}
bool repeats_matter(const SamplingParams& params) { return params.dry.multiplier > 0 && params.dry.range != 0; }

}  // namespace

std::unique_ptr<SequenceSampling> SequenceSampling::make(const SamplingParams& params,
                                                         std::span<const TokenId> prompt, SeqId sequence) {
  const bool needed = has_penalties(params) || repeats_matter(params) || !params.logit_bias.empty() ||
                      params.min_tokens > 0 || params.logprobs || params.prompt_logprobs;
  if (!needed) return nullptr;
  return std::unique_ptr<SequenceSampling>(new SequenceSampling(params, prompt, sequence));
}

SequenceSampling::SequenceSampling(const SamplingParams& params, std::span<const TokenId> prompt, SeqId sequence)
    : params_(params) {
  if (has_penalties(params)) {
    history_.emplace(prompt, params.max_tokens);
    adjustments_.history.sequence = sequence.value;
    adjustments_.repetition_penalty = params.repetition_penalty;
    adjustments_.frequency_penalty = params.frequency_penalty;
    adjustments_.presence_penalty = params.presence_penalty;
  }
  if (repeats_matter(params)) repetitions_.emplace(params.dry, params.dry_breakers, prompt, params.max_tokens);
  adjustments_.bias = params.logit_bias;
  adjusts_always_ = history_ || repetitions_ || !params.logit_bias.empty();
  if (params.prompt_logprobs) {
    scorable_rows_ = static_cast<int64_t>(prompt.size()) - 1;
    prompt_logprobs_.reserve(static_cast<size_t>(scorable_rows_ * (1 + *params.prompt_logprobs)));
  }
}

const LogitAdjustments* SequenceSampling::adjustments(int64_t output_tokens) {
  const bool must_go_on = output_tokens < params_.min_tokens;
  if (!must_go_on && !adjusts_always_) return nullptr;
  adjustments_.forbidden = must_go_on ? std::span<const TokenId>(params_.stop_token_ids) : std::span<const TokenId>();
  if (history_) {
    adjustments_.seen = history_->counts();
    adjustments_.history.drawn = output_tokens;
  }
  if (repetitions_) adjustments_.dry = repetitions_->penalties();
  return &adjustments_;
}

void SequenceSampling::append(TokenId token, const TokenLogprob* logprobs) {
  if (history_) {
    history_->append(token);
    adjustments_.history.known += 1;
  }
  if (repetitions_) repetitions_->append(token);
  if (!params_.logprobs) return;
  num_logprobs_ = static_cast<size_t>(1 + *params_.logprobs);
  std::copy_n(logprobs, num_logprobs_, logprobs_.begin());
}

void SequenceSampling::score(const TokenLogprob* logprobs) {
  prompt_logprobs_.insert(prompt_logprobs_.end(), logprobs, logprobs + 1 + *params_.prompt_logprobs);
  scored_ += 1;
}

}  // namespace crible
