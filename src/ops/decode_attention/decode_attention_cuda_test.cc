#include "ops/decode_attention/decode_attention_cuda.h"

#include "ops/attention/paged_gpu_case.h"
#include "ops/rope/rope_reference.h"

namespace crible::cuda {
namespace {

constexpr float kEpsilon = 1e-6f;

class DecodeAttentionCuda : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    if (!IsSkipped()) prepare_decode_attention();
  }
  void check(RandomValues& random, const AttentionShape& shape, const std::vector<int64_t>& contexts,
             int cluster, bool norm, RopePairing pairing) {
    for (const KvType type : {KvType::kBf16, KvType::kFp8})
      check(random, shape, contexts, cluster, norm, pairing, type);
  }
  void check(RandomValues& random, const AttentionShape& shape, const std::vector<int64_t>& contexts,
             int cluster, bool norm, RopePairing pairing, KvType type) {
    std::vector<SequenceLengths> lengths;
    for (const int64_t context : contexts) lengths.push_back({context, 1});
    PagedGpuCase c(random, shape, lengths, type);
    // As the cache holds x: divided by the scale and rounded to its type.
    const auto stored = [&](double x, double scale) {
      const auto divided = static_cast<float>(x / scale);
      return __float2bfloat16_rn(type == KvType::kFp8 ? from_fp8(to_fp8(divided)) : divided);
    };
    const DeviceRopeTable device_table =
        DeviceRopeTable::upload(make_rope_table(test_rope_frequencies(shape.head_size), 8192, 1.0), pairing)
            .value();
    const int64_t all = shape.heads + 2 * shape.kv_heads;
    const Bf16s qkv = random_bf16(random, c.tokens * all * shape.head_size);
    const Bf16s q_norm = random_bf16(random, shape.head_size), k_norm = random_bf16(random, shape.head_size);
    std::vector<double> q;
    for (size_t s = 0; s < contexts.size(); ++s) {
      const auto head = [&](int64_t h) {
        return &qkv[(s * static_cast<size_t>(all) + static_cast<size_t>(h)) *
                    static_cast<size_t>(shape.head_size)];
      };
      const auto turned = [&](int64_t h, const Bf16s& weight) {
        return reference_head(head(h), shape.head_size, norm ? weight.data() : nullptr,
                              static_cast<double>(kEpsilon), pairing, contexts[s] - 1);
      };
      for (int64_t h = 0; h < shape.heads; ++h) {
        // The kernel rounds q to BF16, as the paged kernels' callers do.
        for (const double v : turned(h, q_norm))
          q.push_back(exact(__float2bfloat16_rn(static_cast<float>(v))));
      }
      for (int64_t h = 0; h < shape.kv_heads; ++h) {
        const std::vector<double> k = turned(shape.heads + h, k_norm);
        for (int64_t d = 0; d < shape.head_size; ++d) {
          const size_t at =
              static_cast<size_t>(((contexts[s] - 1) * shape.kv_heads + h) * shape.head_size + d);
          c.keys[s][at] = stored(k[static_cast<size_t>(d)], c.key_scale());
          c.values[s][at] = stored(exact(head(shape.heads + shape.kv_heads + h)[d]), c.value_scale());
        }
      }
    }
    // The new token's place holds what a former owner left.
    PagedGpuArrays arrays(c);
    const auto qkv_device = to_device(qkv), q_norm_device = to_device(q_norm),
               k_norm_device = to_device(k_norm);
    const DeviceArray<__nv_bfloat16> out(q.size());
    decode_attention(stream(),
                     {.qkv = qkv_device.data(),
                      .out = out.data(),
                      .rows = static_cast<int>(contexts.size()),
                      .q_norm = norm ? q_norm_device.data() : nullptr,
                      .k_norm = norm ? k_norm_device.data() : nullptr,
                      .epsilon = kEpsilon,
                      .rope = device_table.view(),
                      .slots = arrays.slots.data(),
                      .context_length = arrays.context_length.data(),
                      .kv_start = arrays.kv_start.data(),
                      .kv_blocks = arrays.kv_blocks.data(),
                      .shape = shape,
                      .cache = c.view(arrays.cache.data())},
                     cluster);
    finish();
    // The weights are rounded to BF16 (FP16 beside FP8) before they meet the values, the result once more,
    // and the new key's rounding may fall the other way. In FP8 that is a sixteenth of it, which counts where
    // it is one of few.
    const double bound = (type == KvType::kFp8 ? 4 : 1.5) * kBf16Epsilon;
    EXPECT_LE(relative_distance(to_doubles(out.host()), c.attention(q)), bound)
        << "cluster " << cluster << (type == KvType::kFp8 ? ", FP8" : "");
    const Bf16s cache = c.from_cache_bytes(arrays.cache.host());
    for (size_t s = 0; s < contexts.size(); ++s) {
      for (int64_t h = 0; h < shape.kv_heads; ++h) {
        const __nv_bfloat16* k = &cache[c.key_place(c.slots[s], h)];
        const __nv_bfloat16* expected = c.logical(c.keys, s, contexts[s] - 1, h);
        expect_each_near(Bf16s(k, k + shape.head_size),
                         to_doubles(Bf16s(expected, expected + shape.head_size)),
                         type == KvType::kFp8 ? 0x1p-3 : 2 * kBf16Epsilon,
                         type == KvType::kFp8 ? 0x1p-9 : 1e-6);  // both are rounded: they may be neighbours
        EXPECT_EQ(0, std::memcmp(k + c.half_block(), c.logical(c.values, s, contexts[s] - 1, h),
                                 static_cast<size_t>(shape.head_size) * sizeof(__nv_bfloat16)));
      }
    }
  }
};

TEST_F(DecodeAttentionCuda, AgreesWithFloat64AndWritesTheNewToken) {
  RandomValues random(1);
  for (const int64_t head_size : {64, 128}) {
    for (const auto& [heads, kv_heads] :
         {std::pair<int64_t, int64_t>{4, 2}, {9, 3}, {32, 8}, {7, 1}, {16, 2}}) {
      const AttentionShape shape = {.heads = heads,
                                    .kv_heads = kv_heads,
                                    .head_size = head_size,
                                    .block_size = 16,
                                    .scale = 1.0f / std::sqrt(static_cast<float>(head_size))};
      for (const int cluster : {1, 4, 8, 16}) {
        check(random, shape, {1}, cluster, true, RopePairing::kHalves);
        check(random, shape, {2, 65, 17}, cluster, false, RopePairing::kInterleaved);
      }
      check(random, shape, {1024}, 16, true, RopePairing::kHalves);
      check(random, shape, {3000, 129, 64, 1000, 16, 33, 257, 700}, 0, true, RopePairing::kHalves);
    }
  }
}

}  // namespace
}  // namespace crible::cuda
