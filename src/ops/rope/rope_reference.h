// For tests: QK-norm and rotary embedding of one head in float64.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/gpu_values.h"
#include "ops/rope/rope.h"

namespace crible::cuda {

inline constexpr double kTestRopeBase = 10000.0;

inline std::vector<double> test_rope_frequencies(int64_t head_size) {
  std::vector<double> frequencies;
  for (int64_t i = 0; i < head_size / 2; ++i) {
    frequencies.push_back(
        std::pow(kTestRopeBase, -2.0 * static_cast<double>(i) / static_cast<double>(head_size)));
  }
  return frequencies;
}

inline std::vector<double> reference_rotate(const std::vector<double>& head, RopePairing pairing,
                                            int64_t position) {
  const int64_t half = static_cast<int64_t>(head.size()) / 2;
  const std::vector<double> frequencies = test_rope_frequencies(2 * half);
  std::vector<double> turned(head.size());
  for (int64_t i = 0; i < half; ++i) {
    const double angle = static_cast<double>(position) * frequencies[static_cast<size_t>(i)];
    const bool interleaved = pairing == RopePairing::kInterleaved;
    const size_t a = static_cast<size_t>(interleaved ? 2 * i : i),
                 b = static_cast<size_t>(interleaved ? 2 * i + 1 : i + half);
    turned[a] = head[a] * std::cos(angle) - head[b] * std::sin(angle);
    turned[b] = head[b] * std::cos(angle) + head[a] * std::sin(angle);
  }
  return turned;
}

// weight: the head's norm, or null.
inline std::vector<double> reference_head(const __nv_bfloat16* x, int64_t head_size,
                                          const __nv_bfloat16* weight, double epsilon, RopePairing pairing,
                                          int64_t position) {
  std::vector<double> head;
  double squares = 0;
  for (int64_t d = 0; d < head_size; ++d) squares += exact(x[d]) * exact(x[d]);
  const double factor = 1 / std::sqrt(squares / static_cast<double>(head_size) + epsilon);
  for (int64_t d = 0; d < head_size; ++d) {
    head.push_back(weight == nullptr ? exact(x[d]) : exact(x[d]) * factor * exact(weight[d]));
  }
  return reference_rotate(head, pairing, position);
}

}  // namespace crible::cuda
