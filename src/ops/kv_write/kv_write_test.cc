#include "ops/kv_write/kv_write.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "ops/attention/paged_case.h"
#include "ops/available_isas.h"

namespace crible {
namespace {

// A cache written token by token by the op equals, byte for byte, one filled by the layout's definition.
TEST(KvWrite, PutsEveryElementInItsPlaceAndTouchesNothingElse) {
  RandomValues random(1);
  for (CpuIsa isa : available_isas()) {
    for (DType dtype : {DType::kF16, DType::kF32, DType::kBF16, DType::kI8}) {
      for (int64_t head_size : {64, 80, 12}) {
        PagedCase expected(random, {{50, 50}, {1, 1}, {33, 33}}, 4, 2, head_size, 16, dtype);
        PagedCase actual = expected;
        std::memset(actual.k_cache.data(), 0xFF, actual.k_cache.size());
        std::memset(actual.v_cache.data(), 0xFF, actual.v_cache.size());
        const int64_t stride = 2 * head_size + 5;
        std::vector<float> k(static_cast<size_t>(actual.num_tokens * stride)), v = k;
        int64_t token = 0;
        for (size_t s = 0; s < actual.shapes.size(); ++s) {
          for (int64_t p = 0; p < actual.shapes[s].context; ++p, ++token) {
            std::copy_n(&actual.keys[s][p * 2 * head_size], 2 * head_size, &k[token * stride]);
            std::copy_n(&actual.values[s][p * 2 * head_size], 2 * head_size, &v[token * stride]);
          }
        }
        Stream stream = Stream::create_cpu(2, isa).value();
        kv_write(stream, actual.batch(), {k.data(), v.data(), stride, stride, actual.cache()});
        EXPECT_EQ(actual.k_cache, expected.k_cache) << cpu_isa_name(isa) << dtype_name(dtype) << head_size;
        EXPECT_EQ(actual.v_cache, expected.v_cache) << cpu_isa_name(isa) << dtype_name(dtype) << head_size;
      }
    }
  }
}

// A vector that is not all finite must not read back as numbers, and one of zeros must.
TEST(KvWrite, IntegersOfUnusualVectors) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  for (CpuIsa isa : available_isas()) {
    for (float odd : {0.0f, 1e-38f, 1e-20f, 3e38f, kInfinity, -kInfinity, kNan}) {
      std::vector<float> k(8, 0.0f);
      k[5] = odd;
      std::vector<std::byte> keys(static_cast<size_t>(kv_head_bytes(DType::kI8, 8, 8))), values = keys;
      const int64_t slot = 3;
      BatchView batch;
      batch.num_tokens = 1;
      batch.slot_mapping = &slot;
      Stream stream = Stream::create_cpu(1, isa).value();
      kv_write(stream, batch, {k.data(), k.data(), 8, 8, {keys.data(), values.data(), DType::kI8, 1, 8, 1, 8}});
      float scale = 0.0f;
      std::memcpy(&scale, values.data() + 64 + slot * 4, 4);
      const float back = static_cast<float>(static_cast<int8_t>(values[static_cast<size_t>(slot * 8 + 5)])) * scale;
      EXPECT_EQ(std::isfinite(odd), std::isfinite(back)) << odd;
      if (std::isfinite(odd)) {
        EXPECT_NEAR(back, odd, odd * 1e-6f + 1e-30f);
      }
      EXPECT_EQ(std::memcmp(keys.data() + 64, values.data() + 64, 32), 0);
    }
  }
}

TEST(KvCache, BlockBytesCountKeysAndValues) {
  EXPECT_EQ(kv_cache_block_bytes(DType::kF16, 16, 3, 64), 2 * 16 * 3 * 64 * 2);
  EXPECT_EQ(kv_cache_block_bytes(DType::kF32, 8, 2, 128), 2 * 8 * 2 * 128 * 4);
  EXPECT_EQ(kv_cache_block_bytes(DType::kBF16, 16, 3, 64), 2 * 16 * 3 * 64 * 2);
  EXPECT_EQ(kv_cache_block_bytes(DType::kI8, 16, 3, 64), 2 * 3 * (16 * 64 + 16 * 4));
}

}  // namespace
}  // namespace crible
