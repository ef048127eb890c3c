#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/exponential.h"
#include "ops/sample/sample_kernels.h"

namespace crible {
namespace {

LogitSummary summarise(const float* logits, int64_t n) {
  LogitSummary s = {-std::numeric_limits<float>::infinity(), 0, false};
  for (int64_t i = 0; i < n; ++i) {
    s.faulty |= !(logits[i] < std::numeric_limits<float>::infinity());
    if (logits[i] > s.maximum) {
      s.maximum = logits[i];
      s.argmax = static_cast<TokenId>(i);
    }
  }
  return s;
}

// Halves of the eight are added pairwise.
double sum_of(double (&partial)[8]) {
  for (int width = 4; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) partial[i] += partial[i + width];
  }
  return partial[0];
}

void weigh(const float* logits, int64_t n, float maximum, float temperature, float* weights, double* block_sums) {
  for (int64_t begin = 0; begin < n; begin += kSampleBlock) {
    double partial[8] = {};
    const int64_t end = std::min(n, begin + kSampleBlock);
    for (int64_t i = begin; i < end; ++i) {
      const float w = exponential((logits[i] - maximum) / temperature);
      if (weights != nullptr) weights[i] = w;
      partial[i % 8] += static_cast<double>(w);
    }
    block_sums[begin / kSampleBlock] = sum_of(partial);
  }
}

int64_t collect(const float* logits, int64_t n, float low, float high, Candidate* out) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (logits[i] >= low && logits[i] <= high) out[count++] = {logits[i], static_cast<TokenId>(i), 0.0f};
  }
  return count;
}

double weight_between(const float* logits, const float* weights, int64_t n, float low, float high) {
  double partial[8] = {};
  for (int64_t i = 0; i < n; ++i) {
    if (logits[i] >= low && logits[i] <= high) partial[i % 8] += static_cast<double>(weights[i]);
  }
  return sum_of(partial);
}

double moment(const float* logits, const float* weights, int64_t n, float maximum) {
  double partial[8] = {};
  for (int64_t i = 0; i < n; ++i) {
    if (weights[i] == 0.0f) continue;  // the logit may be -infinity
    partial[i % 8] += static_cast<double>(weights[i]) * (static_cast<double>(logits[i]) - static_cast<double>(maximum));
  }
  return sum_of(partial);
}

void weigh_candidates(Candidate* candidates, int64_t n, float maximum, float temperature) {
  for (int64_t i = 0; i < n; ++i) candidates[i].weight = exponential((candidates[i].logit - maximum) / temperature);
}

}  // namespace

const SampleKernels& sample_kernels_scalar() {
  static constexpr SampleKernels kernels = {summarise, weigh, collect, weight_between, moment, weigh_candidates};
  return kernels;
}

}  // namespace crible
