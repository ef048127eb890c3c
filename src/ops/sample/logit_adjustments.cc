#include "ops/sample/logit_adjustments.h"

#include <limits>

#include "base/check.h"

namespace crible {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

float& logit_of(float* logits, int64_t vocabulary, TokenId id) {
  CHECK(id >= 0 && id < vocabulary, "token {} of a vocabulary of {}", id, vocabulary);
  return logits[id];
}

void add(float* logits, int64_t vocabulary, std::span<const AddedLogit> added) {
  for (const AddedLogit& a : added) logit_of(logits, vocabulary, a.id) += a.value;
}

void forbid(float& logit) {
  if (logit < kInfinity) logit = -kInfinity;
}

void mask(float* logits, int64_t vocabulary, std::span<const uint32_t> allowed) {
  if (allowed.empty()) return;
  CHECK(std::ssize(allowed) == ceil_div(vocabulary, 32), "a mask of {} words for {} tokens", allowed.size(), vocabulary);
  for (int64_t id = 0; id < vocabulary; ++id) {
    if ((allowed[static_cast<size_t>(id / 32)] >> (id % 32) & 1) == 0) forbid(logits[id]);
  }
}

}  // namespace

void adjust_logits(float* logits, int64_t vocabulary, const LogitAdjustments& adjustments) {
  mask(logits, vocabulary, adjustments.allowed);
  for (const TokenId id : adjustments.forbidden) forbid(logit_of(logits, vocabulary, id));
  add(logits, vocabulary, adjustments.bias);
  const float repetition = adjustments.repetition_penalty;
  for (const TokenCount& count : adjustments.seen) {
    float& logit = logit_of(logits, vocabulary, count.id);
    logit = logit > 0 ? logit / repetition : logit * repetition;
    if (count.in_output == 0) continue;
    logit -= static_cast<float>(count.in_output) * adjustments.frequency_penalty;
    logit -= adjustments.presence_penalty;
  }
  add(logits, vocabulary, adjustments.dry);
}

}  // namespace crible
