// For the GPU ops' tests: random BF16 inputs, their exact values, and the distance of a result from a
// float64 reference.
#pragma once

#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "ops/random_values.h"

namespace crible::cuda {

using Bf16s = std::vector<__nv_bfloat16>;

// One rounding to BF16 (8 significant bits) errs by at most this share.
inline constexpr double kBf16Epsilon = 0x1p-8;

inline double exact(__nv_bfloat16 value) {
  return static_cast<double>(__bfloat162float(value));
}

inline Bf16s to_bf16(const std::vector<float>& values) {
  Bf16s rounded;
  rounded.reserve(values.size());
  for (const float v : values) rounded.push_back(__float2bfloat16_rn(v));
  return rounded;
}
inline Bf16s random_bf16(RandomValues& random, int64_t count, float scale = 1.0f) {
  return to_bf16(random.normals(count, scale));
}
inline std::vector<double> to_doubles(const Bf16s& values) {
  std::vector<double> wide;
  wide.reserve(values.size());
  for (const __nv_bfloat16 v : values) wide.push_back(exact(v));
  return wide;
}
inline std::vector<double> to_doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

struct ProductSize {
  int64_t rows, out, in;
};
// x · Wᵀ of x [rows, in] and W [out, in].
inline std::vector<double> float64_product(const std::vector<double>& x, const std::vector<double>& w,
                                           const ProductSize& s) {
  std::vector<double> out(static_cast<size_t>(s.rows * s.out));
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t n = 0; n < s.out; ++n) {
      double sum = 0;
      const double* a = x.data() + r * s.in;
      const double* b = w.data() + n * s.in;
      for (int64_t k = 0; k < s.in; ++k) sum += a[k] * b[k];
      out[static_cast<size_t>(r * s.out + n)] = sum;
    }
  }
  return out;
}

// Each element within `share` of its own size or `floor`: for results that are one rounding away.
template <typename Values>
void expect_each_near(const Values& out, const std::vector<double>& reference, double share, double floor) {
  const std::vector<double> wide = to_doubles(out);
  ASSERT_EQ(wide.size(), reference.size());
  for (size_t i = 0; i < wide.size(); ++i) {
    ASSERT_LE(std::abs(wide[i] - reference[i]), share * std::abs(reference[i]) + floor) << "element " << i;
  }
}

// ‖out - reference‖ / ‖reference‖; NaN if anything is.
inline double relative_distance(const std::vector<double>& out, const std::vector<double>& reference) {
  double difference = 0;
  double norm = 0;
  for (size_t i = 0; i < out.size(); ++i) {
    difference += (out[i] - reference[i]) * (out[i] - reference[i]);
    norm += reference[i] * reference[i];
  }
  return std::sqrt(difference / norm);
}

}  // namespace crible::cuda
