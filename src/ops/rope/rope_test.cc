#include "ops/rope/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <cstring>

#include "ops/available_isas.h"
#include "ops/random_values.h"

namespace crible {
namespace {

std::vector<double> frequencies(int64_t rotary_size, double base) {
  std::vector<double> f;
  for (int64_t i = 0; i < rotary_size; i += 2) {
    f.push_back(std::pow(base, -static_cast<double>(i) / static_cast<double>(rotary_size)));
  }
  return f;
}

// Each pair, taken as a complex number, is multiplied by e^(i·position·frequency).
TEST(Rope, RotatesPairsAsComplexNumbers) {
  RandomValues random(1);
  for (RopePairing pairing : {RopePairing::kInterleaved, RopePairing::kHalves}) {
    for (int64_t rotary_size : {64, 20, 6}) {
      const int64_t head_size = 64, heads = 3, kv_heads = 2, tokens = 9, q_stride = 200, k_stride = 131;
      const std::vector<double> f = frequencies(rotary_size, 10000.0);
      const RopeTable table = make_rope_table(f, 3000, 1.25);
      std::vector<int32_t> positions;
      for (int64_t t = 0; t < tokens; ++t) positions.push_back(static_cast<int32_t>(random.integer(0, 2999)));
      BatchView batch;
      batch.num_tokens = tokens;
      batch.positions = positions.data();
      const std::vector<float> q = random.normals(tokens * q_stride), k = random.normals(tokens * k_stride);
      std::vector<float> first_q;
      for (CpuIsa isa : available_isas()) {
        std::vector<float> rotated_q = q, rotated_k = k;
        Stream stream = Stream::create_cpu(2, isa).value();
        rope(stream, batch, {rotated_q.data(), q_stride, heads, rotated_k.data(), k_stride, kv_heads, head_size,
                             pairing, &table});
        const auto check = [&](const std::vector<float>& before, const std::vector<float>& after, int64_t stride,
                               int64_t count) {
          std::vector<float> expected = before;
          for (int64_t t = 0; t < tokens; ++t) {
            for (int64_t h = 0; h < count; ++h) {
              for (int64_t i = 0; i < rotary_size / 2; ++i) {
                const int64_t base = t * stride + h * head_size;
                const int64_t a = base + (pairing == RopePairing::kInterleaved ? 2 * i : i);
                const int64_t b = base + (pairing == RopePairing::kInterleaved ? 2 * i + 1 : i + rotary_size / 2);
                const std::complex<double> z(static_cast<double>(before[a]), static_cast<double>(before[b]));
                const std::complex<double> turned = z * std::polar(1.25, static_cast<double>(positions[t]) * f[i]);
                const double bound = 4 * 0x1p-24 * 1.25 * std::abs(z);
                ASSERT_NEAR(static_cast<double>(after[a]), turned.real(), bound);
                ASSERT_NEAR(static_cast<double>(after[b]), turned.imag(), bound);
                expected[a] = after[a];
                expected[b] = after[b];
              }
            }
          }
          EXPECT_EQ(expected, after) << "an element outside the rotary part changed";
        };
        check(q, rotated_q, q_stride, heads);
        check(k, rotated_k, k_stride, kv_heads);
        if (first_q.empty()) first_q = rotated_q;
        EXPECT_EQ(0, std::memcmp(first_q.data(), rotated_q.data(), first_q.size() * sizeof(float)));
      }
    }
  }
}

// The two tables together are as good as one of every position: the same floats, but for a few on the edge
// between two.
TEST(Rope, RowsAreCosinesAndSinesOfEveryPosition) {
  RandomValues random(2);
  const std::vector<double> f = frequencies(128, 500000.0);
  const RopeTable table = make_rope_table(f, 131072, 1.25);
  EXPECT_LT(table.bytes(), 1 << 20);
  std::vector<float> cosine(f.size()), sine(f.size());
  int64_t different = 0;
  for (int i = 0; i < 2000; ++i) {
    const int64_t position = i < 600 ? i : random.integer(0, 131071);
    table.row(position, cosine.data(), sine.data());
    for (size_t j = 0; j < f.size(); ++j) {
      const double angle = static_cast<double>(position) * f[j];
      // Three roundings of angles up to 131,072 and six of products, then one to float.
      const double slack = 0x1p-53 * (3.0 * angle + 8.0);
      ASSERT_NEAR(static_cast<double>(cosine[j]), 1.25 * std::cos(angle), 0x1p-24 * 1.25 + slack);
      ASSERT_NEAR(static_cast<double>(sine[j]), 1.25 * std::sin(angle), 0x1p-24 * 1.25 + slack);
      different += cosine[j] != static_cast<float>(1.25 * std::cos(angle));
    }
  }
  EXPECT_LE(different, 20);
}

TEST(RopeDeathTest, RefusesPositionsBeyondItsTable) {
  const RopeTable table = make_rope_table(frequencies(4, 10.0), 8, 1.0);
  Stream stream = Stream::create_cpu(1, CpuIsa::kScalar).value();
  std::vector<float> q(4), k(4);
  const int32_t position = 8;
  BatchView batch;
  batch.num_tokens = 1;
  batch.positions = &position;
  EXPECT_DEATH(rope(stream, batch, {q.data(), 4, 1, k.data(), 4, 1, 4, RopePairing::kHalves, &table}),
               "outside a rope table");
}

}  // namespace
}  // namespace crible
