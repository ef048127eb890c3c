#include "engine/admission.h"

#include <algorithm>
#include <cmath>

namespace crible {
namespace {

Status check_sampling(const SamplingParams& sampling, const AdmissionLimits& limits) {
  if (!std::isfinite(sampling.temperature) || sampling.temperature < 0) {
    return fail(ErrorCode::kInvalidArgument, "temperature is {}; it must be a number of at least 0",
                sampling.temperature);
  }
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return fail(ErrorCode::kInvalidArgument, "top_p is {}; it must be above 0 and at most 1", sampling.top_p);
  }
  if (sampling.top_k < 0) {
    return fail(ErrorCode::kInvalidArgument, "top_k is {}; it must be at least 0 (0 = off)", sampling.top_k);
  }
  if (sampling.max_tokens < 1) {
    return fail(ErrorCode::kInvalidArgument, "max_tokens is {}; it must be at least 1", sampling.max_tokens);
  }
  for (const TokenId id : sampling.stop_token_ids) {
    if (id < 0 || id >= limits.vocabulary) {
      return fail(ErrorCode::kInvalidArgument, "stop token id {} is outside the vocabulary of {}", id,
                  limits.vocabulary);
    }
  }
  return {};
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
  CRIBLE_RETURN_IF_ERROR(check_sampling(request.sampling, limits));
  request.sampling.max_tokens =
      std::min(request.sampling.max_tokens, limits.max_sequence_tokens - prompt_tokens);
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
