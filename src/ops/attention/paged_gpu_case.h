// For the tests of the GPU's attention: sequences with their paged cache in BF16 or FP8, blocks scattered at
// random and unused memory poisoned, and causal attention over it in float64.
#pragma once

#include <cuda_fp8.h>

#include <cmath>
#include <cstdint>
#include <vector>

#include "base/units.h"
#include "device/cuda/gpu_test.h"
#include "ops/attention/attention_cuda.h"
#include "ops/gpu_values.h"

namespace crible::cuda {

struct SequenceLengths {
  int64_t context;  // tokens in the cache after the step
  int64_t queries;  // the last of them, in this step
};

// Scales of an FP8 cache, unlike each other and no powers of two.
inline constexpr float kTestKeyScale = 0.75f;
inline constexpr float kTestValueScale = 1.3f;

inline uint8_t to_fp8(float value) {
  return __nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3);
}
inline float from_fp8(uint8_t value) {
  return __half2float(__half(__nv_cvt_fp8_to_halfraw(value, __NV_E4M3)));
}

class PagedGpuCase {
 public:
  AttentionShape shape;
  KvType type = KvType::kBf16;
  std::vector<SequenceLengths> lengths;
  int64_t tokens = 0;
  std::vector<int32_t> query_start = {0}, kv_start = {0}, kv_blocks, last_block_tokens, context_length,
                       positions;
  std::vector<int64_t> slots;       // of the query tokens
  std::vector<Bf16s> keys, values;  // per sequence [context, kv_heads, head_size], before their scales
  Bf16s cache;                      // [blocks][K, V][kv_heads][block_size][head_size]

  // FP8: every key and value is one that E4M3 holds exactly.
  PagedGpuCase(RandomValues& random, const AttentionShape& s, std::vector<SequenceLengths> sequences,
               KvType kv_type = KvType::kBf16)
      : shape(s), type(kv_type), lengths(std::move(sequences)) {
    int64_t blocks = 3;  // some that nobody owns
    for (const SequenceLengths& l : lengths) blocks += ceil_div(l.context, shape.block_size);
    std::vector<int32_t> order(static_cast<size_t>(blocks));
    for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
    for (size_t i = order.size() - 1; i > 0; --i)
      std::swap(order[i], order[static_cast<size_t>(random.integer(0, static_cast<int64_t>(i)))]);
    const uint16_t nan_bits = 0xFFFF;
    __nv_bfloat16 poison;
    std::memcpy(static_cast<void*>(&poison), &nan_bits, sizeof poison);
    cache.assign(static_cast<size_t>(blocks * block_stride()), poison);
    for (const SequenceLengths& l : lengths) add_sequence(random, l, order);
  }

  int64_t half_block() const { return shape.kv_heads * shape.block_size * shape.head_size; }
  int64_t block_stride() const { return 2 * half_block(); }
  KvCache view(void* data) const {
    const bool fp8 = type == KvType::kFp8;
    return {.k = data,
            .v = static_cast<std::byte*>(data) + half_block() * kv_element_bytes(type),
            .block_stride = block_stride(),
            .type = type,
            .k_scale = fp8 ? kTestKeyScale : 1.0f,
            .v_scale = fp8 ? kTestValueScale : 1.0f};
  }
  double key_scale() const { return type == KvType::kFp8 ? static_cast<double>(kTestKeyScale) : 1.0; }
  double value_scale() const { return type == KvType::kFp8 ? static_cast<double>(kTestValueScale) : 1.0; }
  // The cache as the device holds it. What is poison in BF16 is in FP8, too.
  std::vector<uint8_t> cache_bytes() const {
    std::vector<uint8_t> bytes(cache.size() * static_cast<size_t>(kv_element_bytes(type)));
    if (type == KvType::kBf16) {
      std::memcpy(bytes.data(), cache.data(), bytes.size());
    } else {
      for (size_t i = 0; i < cache.size(); ++i) bytes[i] = to_fp8(__bfloat162float(cache[i]));
    }
    return bytes;
  }
  // The device's cache as values before their scales.
  Bf16s from_cache_bytes(const std::vector<uint8_t>& bytes) const {
    Bf16s values_of(cache.size());
    if (type == KvType::kBf16) {
      std::memcpy(static_cast<void*>(values_of.data()), bytes.data(), bytes.size());
    } else {
      for (size_t i = 0; i < cache.size(); ++i) values_of[i] = __float2bfloat16_rn(from_fp8(bytes[i]));
    }
    return values_of;
  }
  // Element 0 of a token's key for one head, in `cache`.
  size_t key_place(int64_t slot, int64_t kv_head) const {
    return static_cast<size_t>(slot / shape.block_size * block_stride() +
                               (kv_head * shape.block_size + slot % shape.block_size) * shape.head_size);
  }
  const __nv_bfloat16* logical(const std::vector<Bf16s>& of, size_t s, int64_t position,
                               int64_t kv_head) const {
    return &of[s][static_cast<size_t>((position * shape.kv_heads + kv_head) * shape.head_size)];
  }

  // q: [tokens, heads, head_size]; returns the same shape.
  std::vector<double> attention(const std::vector<double>& q) const {
    std::vector<double> out(q.size());
    for (size_t s = 0; s < lengths.size(); ++s) {
      for (int64_t i = 0; i < lengths[s].queries; ++i) {
        for (int64_t h = 0; h < shape.heads; ++h) {
          const int64_t row = (query_start[s] + i) * shape.heads + h;
          attend(s, lengths[s].context - lengths[s].queries + i, h / (shape.heads / shape.kv_heads),
                 &q[static_cast<size_t>(row * shape.head_size)],
                 &out[static_cast<size_t>(row * shape.head_size)]);
        }
      }
    }
    return out;
  }

 private:
  void add_sequence(RandomValues& random, const SequenceLengths& l, const std::vector<int32_t>& order) {
    const int64_t first = kv_start.back(), blocks = ceil_div(l.context, shape.block_size);
    for (int64_t b = 0; b < blocks; ++b) kv_blocks.push_back(order[static_cast<size_t>(first + b)]);
    kv_start.push_back(static_cast<int32_t>(first + blocks));
    last_block_tokens.push_back(static_cast<int32_t>(l.context - (blocks - 1) * shape.block_size));
    context_length.push_back(static_cast<int32_t>(l.context));
    tokens += l.queries;
    query_start.push_back(static_cast<int32_t>(tokens));
    for (std::vector<Bf16s>* side : {&keys, &values}) {
      Bf16s drawn = random_bf16(random, l.context * shape.kv_heads * shape.head_size);
      if (type == KvType::kFp8) {
        for (__nv_bfloat16& v : drawn) v = __float2bfloat16_rn(from_fp8(to_fp8(__bfloat162float(v))));
      }
      side->push_back(std::move(drawn));
    }
    for (int64_t p = 0; p < l.context; ++p) {
      const int64_t slot = kv_blocks[static_cast<size_t>(first + p / shape.block_size)] * shape.block_size +
                           p % shape.block_size;
      if (p >= l.context - l.queries) {
        slots.push_back(slot);
        positions.push_back(static_cast<int32_t>(p));
      }
      for (int64_t h = 0; h < shape.kv_heads; ++h) {
        const __nv_bfloat16* k = logical(keys, keys.size() - 1, p, h);
        const __nv_bfloat16* v = logical(values, values.size() - 1, p, h);
        std::copy(k, k + shape.head_size, &cache[key_place(slot, h)]);
        std::copy(v, v + shape.head_size, &cache[key_place(slot, h) + static_cast<size_t>(half_block())]);
      }
    }
  }
  void attend(size_t s, int64_t position, int64_t kv_head, const double* q, double* out) const {
    std::vector<double> weights;
    double total = 0;
    for (int64_t p = 0; p <= position; ++p) {
      const __nv_bfloat16* k = logical(keys, s, p, kv_head);
      double dot = 0;
      for (int64_t d = 0; d < shape.head_size; ++d) dot += q[d] * exact(k[d]);
      weights.push_back(std::exp(dot * key_scale() * static_cast<double>(shape.scale)));
      total += weights.back();
    }
    for (int64_t p = 0; p <= position; ++p) {
      const __nv_bfloat16* v = logical(values, s, p, kv_head);
      for (int64_t d = 0; d < shape.head_size; ++d)
        out[d] += weights[static_cast<size_t>(p)] / total * value_scale() * exact(v[d]);
    }
  }
};

// The case's arrays on the device.
struct PagedGpuArrays {
  DeviceArray<uint8_t> cache;
  DeviceArray<int32_t> query_start, kv_start, kv_blocks, last_block_tokens, context_length, positions;
  DeviceArray<int64_t> slots;

  explicit PagedGpuArrays(const PagedGpuCase& c)
      : cache(to_device(c.cache_bytes())),
        query_start(std::span<const int32_t>(c.query_start)),
        kv_start(std::span<const int32_t>(c.kv_start)),
        kv_blocks(std::span<const int32_t>(c.kv_blocks)),
        last_block_tokens(std::span<const int32_t>(c.last_block_tokens)),
        context_length(std::span<const int32_t>(c.context_length)),
        positions(std::span<const int32_t>(c.positions)),
        slots(std::span<const int64_t>(c.slots)) {}
};

}  // namespace crible::cuda
