#include "ops/kv_write/kv_write.h"

#include <gtest/gtest.h>

#include <cstring>

#include "ops/attention/paged_case.h"
#include "ops/available_isas.h"

namespace crible {
namespace {

// A cache written token by token by the op equals, byte for byte, one filled by the layout's definition.
TEST(KvWrite, PutsEveryElementInItsPlaceAndTouchesNothingElse) {
  RandomValues random(1);
  for (CpuIsa isa : available_isas()) {
    for (DType dtype : {DType::kF16, DType::kF32}) {
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

TEST(KvCache, BlockBytesCountKeysAndValues) {
  EXPECT_EQ(kv_cache_block_bytes(DType::kF16, 16, 3, 64), 2 * 16 * 3 * 64 * 2);
  EXPECT_EQ(kv_cache_block_bytes(DType::kF32, 8, 2, 128), 2 * 8 * 2 * 128 * 4);
}

}  // namespace
}  // namespace crible
