#include "engine/admission.h"

#include <algorithm>
#include <cmath>

namespace crible {
namespace {

template <typename T>
Status check_range(const char* name, T value, T minimum, T maximum) {
  if (value >= minimum && value <= maximum) return {};
  return fail(ErrorCode::kInvalidArgument, "{} is {}; it must be from {} to {}", name, value, minimum, maximum);
}

Status check_id(const char* what, TokenId id, const AdmissionLimits& limits) {
  if (id >= 0 && id < limits.vocabulary) return {};
  return fail(ErrorCode::kInvalidArgument, "{} {} is outside the vocabulary of {}", what, id, limits.vocabulary);
}

// A penalty of 0 would divide by it; huge values would make logits infinite, which counts as a fault of the model.
Status check_penalties(const SamplingParams& sampling) {
  CRIBLE_RETURN_IF_ERROR(check_range("repetition_penalty", sampling.repetition_penalty, 0.01f, 100.0f));
  CRIBLE_RETURN_IF_ERROR(check_range("presence_penalty", sampling.presence_penalty, -100.0f, 100.0f));
  CRIBLE_RETURN_IF_ERROR(check_range("frequency_penalty", sampling.frequency_penalty, -100.0f, 100.0f));
  CRIBLE_RETURN_IF_ERROR(check_range("dry_multiplier", sampling.dry.multiplier, 0.0f, 100.0f));
  CRIBLE_RETURN_IF_ERROR(check_range("dry_base", sampling.dry.base, 1.0f, 100.0f));
  CRIBLE_RETURN_IF_ERROR(check_range<int64_t>("dry_allowed_length", sampling.dry.allowed_length, 1, INT32_MAX));
  return check_range<int64_t>("dry_penalty_last_n", sampling.dry.range, -1, INT32_MAX);
}

Status check_logit_bias(const SamplingParams& sampling, const AdmissionLimits& limits) {
  std::vector<TokenId> ids;
  for (const AddedLogit& bias : sampling.logit_bias) {
    CRIBLE_RETURN_IF_ERROR(check_id("logit_bias token", bias.id, limits));
    CRIBLE_RETURN_IF_ERROR(check_range("logit_bias", bias.value, -100.0f, 100.0f));
    ids.push_back(bias.id);
  }
  std::sort(ids.begin(), ids.end());
  const auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice == ids.end()) return {};
  return fail(ErrorCode::kInvalidArgument, "logit_bias names token {} twice", *twice);
}

// Stop tokens are impossible until min_tokens: some other token must be left.
Status check_min_tokens(const SamplingParams& sampling, const AdmissionLimits& limits) {
  CRIBLE_RETURN_IF_ERROR(check_range<int64_t>("min_tokens", sampling.min_tokens, 0, sampling.max_tokens));
  std::vector<TokenId> stops = sampling.stop_token_ids;
  std::sort(stops.begin(), stops.end());
  const auto distinct = std::unique(stops.begin(), stops.end()) - stops.begin();
  if (sampling.min_tokens == 0 || distinct < limits.vocabulary) return {};
  return fail(ErrorCode::kInvalidArgument, "every token of the vocabulary is a stop token, so min_tokens {} cannot be "
              "reached", sampling.min_tokens);
}

Status check_sampling(const SamplingParams& sampling, const AdmissionLimits& limits) {
  if (!std::isfinite(sampling.temperature) || sampling.temperature < 0) {
    return fail(ErrorCode::kInvalidArgument, "temperature is {}; it must be a number of at least 0",
                sampling.temperature);
  }
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return fail(ErrorCode::kInvalidArgument, "top_p is {}; it must be above 0 and at most 1", sampling.top_p);
  }
  CRIBLE_RETURN_IF_ERROR(check_range("min_p", sampling.min_p, 0.0f, 1.0f));
  if (!(sampling.typical_p > 0 && sampling.typical_p <= 1)) {
    return fail(ErrorCode::kInvalidArgument, "typical_p is {}; it must be above 0 and at most 1", sampling.typical_p);
  }
  if (sampling.top_k < 0) {
    return fail(ErrorCode::kInvalidArgument, "top_k is {}; it must be at least 0 (0 = off)", sampling.top_k);
  }
  if (sampling.max_tokens < 1) {
    return fail(ErrorCode::kInvalidArgument, "max_tokens is {}; it must be at least 1", sampling.max_tokens);
  }
  for (const TokenId id : sampling.stop_token_ids) CRIBLE_RETURN_IF_ERROR(check_id("stop token id", id, limits));
  CRIBLE_RETURN_IF_ERROR(check_penalties(sampling));
  CRIBLE_RETURN_IF_ERROR(check_logit_bias(sampling, limits));
  CRIBLE_RETURN_IF_ERROR(check_min_tokens(sampling, limits));
  CRIBLE_RETURN_IF_ERROR(check_range("logprobs", sampling.logprobs.value_or(0), 0, kMaxLogprobs));
  return check_range("prompt_logprobs", sampling.prompt_logprobs.value_or(0), 0, kMaxLogprobs);
}

}  // namespace

Status admit(EngineRequest& request, const AdmissionLimits& limits) {
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  if (prompt_tokens == 0) {
    return fail(ErrorCode::kInvalidArgument, "the prompt is empty; give at least one token");
  }
  if (prompt_tokens >= limits.max_sequence_tokens) {
    return fail(ErrorCode::kInvalidArgument,
                "the prompt has {} tokens but a sequence may hold {}, its output included; shorten the prompt or "
                "raise max-model-len",
                prompt_tokens, limits.max_sequence_tokens);
  }
  for (size_t i = 0; i < request.prompt.size(); ++i) {
    if (request.prompt[i] < 0 || request.prompt[i] >= limits.vocabulary) {
      return fail(ErrorCode::kInvalidArgument, "prompt token {} has id {}, outside the vocabulary of {}", i,
                  request.prompt[i], limits.vocabulary);
    }
  }
  CRIBLE_RETURN_IF_ERROR(check_range("n", request.n, 1, kMaxChoices));
  CRIBLE_RETURN_IF_ERROR(check_sampling(request.sampling, limits));
  request.sampling.max_tokens =
      std::min(request.sampling.max_tokens, limits.max_sequence_tokens - prompt_tokens);
  request.sampling.min_tokens = std::min(request.sampling.min_tokens, request.sampling.max_tokens);
  return {};
}

Status check_live_change(const EngineConfig& current, const EngineConfig& requested) {
  for (const auto& f : engine_fields().fields()) {
    const field::Value from = FieldTable<EngineConfig>::get(current, f);
    const field::Value to = FieldTable<EngineConfig>::get(requested, f);
    if (!f.live && from != to) {
      return fail(ErrorCode::kInvalidArgument,
                  "{} cannot change from {} to {} while the engine runs; restart it with the new value", f.name,
                  field::to_json(from).dump(), field::to_json(to).dump());
    }
  }
  return {};
}

}  // namespace crible
