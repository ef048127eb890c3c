#include "ops/kv_write/kv_write_cuda.h"

#include "ops/attention/paged_gpu_case.h"
#include "ops/rope/rope_reference.h"

namespace crible::cuda {
namespace {

constexpr float kEpsilon = 1e-6f;

class KvWriteCuda : public GpuTest {
 protected:
  void check(RandomValues& random, const AttentionShape& shape, RopePairing pairing, bool norm,
             bool with_bias) {
    for (const KvType type : {KvType::kBf16, KvType::kFp8})
      check(random, shape, pairing, norm, with_bias, type);
  }
  void check(RandomValues& random, const AttentionShape& shape, RopePairing pairing, bool norm,
             bool with_bias, KvType type) {
    const PagedGpuCase c(random, shape, {{40, 3}, {17, 17}, {200, 1}}, type);
    const PagedGpuArrays arrays(c);
    const int64_t all = shape.heads + 2 * shape.kv_heads, width = all * shape.head_size;
    const DeviceRopeTable device_table =
        DeviceRopeTable::upload(make_rope_table(test_rope_frequencies(shape.head_size), 256, 1.0), pairing)
            .value();
    Bf16s qkv = random_bf16(random, c.tokens * width);
    const Bf16s bias = random_bf16(random, width), q_norm = random_bf16(random, shape.head_size);
    const Bf16s k_norm = random_bf16(random, shape.head_size);
    std::vector<int64_t> slots = c.slots;
    slots[1] = -1;  // a padded token
    const auto qkv_device = to_device(qkv), bias_device = to_device(bias), q_norm_device = to_device(q_norm);
    const auto k_norm_device = to_device(k_norm);
    const auto slots_device = to_device(slots);
    kv_write(stream(), {.qkv = qkv_device.data(),
                        .tokens = c.tokens,
                        .positions = arrays.positions.data(),
                        .slots = slots_device.data(),
                        .bias = with_bias ? bias_device.data() : nullptr,
                        .q_norm = norm ? q_norm_device.data() : nullptr,
                        .k_norm = norm ? k_norm_device.data() : nullptr,
                        .epsilon = kEpsilon,
                        .rope = device_table.view(),
                        .shape = shape,
                        .cache = c.view(arrays.cache.data())});
    finish();
    const Bf16s out = qkv_device.host();
    const std::vector<uint8_t> before = c.cache_bytes();
    Bf16s cache = c.from_cache_bytes(arrays.cache.host()), untouched = c.from_cache_bytes(before);
    for (int64_t t = 0; t < c.tokens; ++t) {
      for (int64_t h = 0; h < all; ++h) {
        const size_t place = static_cast<size_t>((t * all + h) * shape.head_size);
        const bool is_q = h < shape.heads, is_v = h >= shape.heads + shape.kv_heads;
        Bf16s input(qkv.begin() + static_cast<int64_t>(place),
                    qkv.begin() + static_cast<int64_t>(place) + shape.head_size);
        if (with_bias) {
          // Added in float32; the reference takes the rounded sum where the test has bias and no norm only.
          for (int64_t d = 0; d < shape.head_size; ++d) {
            input[static_cast<size_t>(d)] =
                __float2bfloat16_rn(__bfloat162float(input[static_cast<size_t>(d)]) +
                                    __bfloat162float(bias[static_cast<size_t>(h * shape.head_size + d)]));
          }
        }
        std::vector<double> reference = to_doubles(input);
        if (!is_v) {
          reference =
              reference_head(input.data(), shape.head_size,
                             !norm  ? nullptr
                             : is_q ? q_norm.data()
                                    : k_norm.data(),
                             static_cast<double>(kEpsilon), pairing, c.positions[static_cast<size_t>(t)]);
        }
        const __nv_bfloat16* got = &out[place];
        const bool in_fp8 = !is_q && type == KvType::kFp8;
        if (in_fp8) {
          // Half a step of E4M3's three bits; below 2^-6 its steps are 2^-9.
          for (double& x : reference) x /= is_v ? c.value_scale() : c.key_scale();
        }
        if (!is_q) {
          if (slots[static_cast<size_t>(t)] < 0) continue;
          const size_t at = c.key_place(slots[static_cast<size_t>(t)], (h - shape.heads) % shape.kv_heads) +
                            (is_v ? static_cast<size_t>(c.half_block()) : 0);
          got = &cache[at];
          std::copy(got, got + shape.head_size, &untouched[at]);
        }
        const double floor = with_bias ? 4 * kBf16Epsilon : 1e-6 * 4;
        expect_each_near(Bf16s(got, got + shape.head_size), reference, in_fp8 ? 0x1.1p-4 : kBf16Epsilon,
                         in_fp8 ? 0x1.1p-10 + floor / static_cast<double>(kTestKeyScale) : floor);
      }
    }
    EXPECT_EQ(0, std::memcmp(cache.data(), untouched.data(), cache.size() * sizeof(__nv_bfloat16)))
        << "something beside the step's slots was written";
  }
};

TEST_F(KvWriteCuda, AgreesWithFloat64AndTouchesNothingElse) {
  RandomValues random(1);
  for (const RopePairing pairing : {RopePairing::kHalves, RopePairing::kInterleaved}) {
    for (const int64_t head_size : {64, 128}) {
      for (const int64_t heads : {2, 9, 32}) {
        const int64_t kv_heads = heads == 32 ? 8 : heads == 9 ? 3 : 1;
        const AttentionShape shape = {
            .heads = heads, .kv_heads = kv_heads, .head_size = head_size, .block_size = 16, .scale = 1};
        check(random, shape, pairing, true, false);
        check(random, shape, pairing, false, false);
        check(random, shape, pairing, false, true);
      }
    }
  }
}

}  // namespace
}  // namespace crible::cuda
