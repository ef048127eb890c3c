// Passes over one row of logits, per instruction set; all give the same results.
#pragma once

#include <cstdint>

#include "base/units.h"

namespace crible {

// Logits whose exponentials are summed together before the sums are added up.
inline constexpr int64_t kSampleBlock = 64;

struct LogitSummary {
  float maximum;
  TokenId argmax;  // lowest id of the maximum
  bool faulty;     // holds NaN or +infinity
};

struct Candidate {
  float logit;
  TokenId id;
  float weight;
};

struct SampleKernels {
  LogitSummary (*summarise)(const float* logits, int64_t n);
  // block_sums[b] = Σ exponential((logit - maximum) / temperature) over block b, ⌈n / kSampleBlock⌉ of them: eight
  // partial sums in double (index modulo 8), added pairwise 4, 2, 1 apart. Where weights is not
  // null, the exponentials are stored there; it may be the logits themselves.
  void (*weigh)(const float* logits, int64_t n, float maximum, float temperature, float* weights, double* block_sums);
  // Appends those in [low, high] to `out` in order of id, without weights, and returns their number.
  int64_t (*collect)(const float* logits, int64_t n, float low, float high, Candidate* out);
  // Σ weight of the logits in [low, high], and Σ weight · (logit - maximum) of all whose weight is not 0: eight partial
  // sums in double (index modulo 8), added pairwise 4, 2, 1 apart.
  double (*weight_between)(const float* logits, const float* weights, int64_t n, float low, float high);
  double (*moment)(const float* logits, const float* weights, int64_t n, float maximum);
  // weight = exponential((logit - maximum) / temperature).
  void (*weigh_candidates)(Candidate* candidates, int64_t n, float maximum, float temperature);
};

const SampleKernels& sample_kernels_scalar();
#if defined(__x86_64__)
const SampleKernels& sample_kernels_avx2();
#endif

}  // namespace crible
