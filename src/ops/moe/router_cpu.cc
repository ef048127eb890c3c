#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"
#include "ops/exponential.h"
#include "ops/moe/moe.h"
#include "ops/row_chunks.h"

namespace crible {
namespace {

bool all_finite(const float* values, int64_t n) {
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(values[i])) return false;
  }
  return true;
}

// The k largest logits by insertion into a list that is kept in order: k is small beside the number of experts.
void choose(const float* logits, int64_t experts, int64_t k, int32_t* chosen) {
  for (int64_t e = 0; e < experts; ++e) {
    int64_t place = e < k ? e : k;
    while (place > 0 && logits[e] > logits[chosen[place - 1]]) {
      if (place < k) chosen[place] = chosen[place - 1];
      --place;
    }
    if (place < k) chosen[place] = static_cast<int32_t>(e);
  }
}

// Normalised weights need the exponentials of the chosen alone: the others cancel.
void weigh(const float* logits, const RouteArgs& args, const int32_t* chosen, float* weights) {
  const int64_t k = args.experts_per_token;
  const float largest = logits[chosen[0]];
  float sum = 0.0f;
  for (int64_t j = 0; j < k; ++j) {
    weights[j] = exponential(logits[chosen[j]] - largest);
    sum += weights[j];
  }
  if (!args.normalise) {
    sum = 0.0f;
    for (int64_t e = 0; e < args.experts; ++e) sum += exponential(logits[e] - largest);
  }
  for (int64_t j = 0; j < k; ++j) weights[j] /= sum;
}

}  // namespace

void route_to_experts(Stream& stream, const RouteArgs& args) {
  const int64_t k = args.experts_per_token;
  CHECK(k >= 1 && k <= args.experts, "{} of {} experts", k, args.experts);
  for_row_chunks(stream, args.rows, args.experts * 8, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const float* logits = args.logits + r * args.logits_stride;
      int32_t* chosen = args.chosen + r * k;
      float* weights = args.weights + r * k;
      choose(logits, args.experts, k, chosen);
      if (all_finite(logits, args.experts)) {
        weigh(logits, args, chosen, weights);
      } else {
        std::fill_n(weights, k, std::numeric_limits<float>::quiet_NaN());
      }
    }
  });
}

}  // namespace crible
