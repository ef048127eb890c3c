// A ragged batch with its paged cache, for the tests and benches of attention and kv_write: sequences with
// given contexts and query lengths, their blocks scattered at random over the pool.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "base/units.h"
#include "ops/attention/attention.h"
#include "ops/batch_view.h"
#include "ops/half.h"
#include "ops/random_values.h"

namespace crible {

struct SequenceShape {
  int64_t context;  // tokens in the cache after the step
  int64_t queries;  // the last of them, that are in this step
};

struct PagedCase {
  int64_t heads, kv_heads, head_size, block_size;
  DType dtype;
  std::vector<SequenceShape> shapes;
  int64_t num_tokens = 0, num_blocks = 0, table_stride = 0;
  std::vector<int32_t> query_start, context_length, block_table, positions;
  std::vector<int64_t> slots, first_kept;  // of each sequence, once some are forgotten
  // Logical keys and values [kv_heads, head_size] per sequence and position, before and after rounding to `dtype`.
  std::vector<std::vector<float>> keys, values, stored_keys, stored_values;
  std::vector<float> q;
  int64_t window = 0;
  float logit_softcap = 0.0f;
  std::vector<std::byte> k_cache, v_cache;

  PagedCase(RandomValues& random, std::vector<SequenceShape> sequences, int64_t heads_, int64_t kv_heads_,
            int64_t head_size_, int64_t block_size_, DType dtype_)
      : heads(heads_), kv_heads(kv_heads_), head_size(head_size_), block_size(block_size_), dtype(dtype_),
        shapes(std::move(sequences)) {
    query_start.push_back(0);
    for (const SequenceShape& s : shapes) {
      num_tokens += s.queries;
      num_blocks += ceil_div(s.context, block_size) + 1;
      table_stride = std::max(table_stride, ceil_div(s.context, block_size));
      query_start.push_back(static_cast<int32_t>(num_tokens));
      context_length.push_back(static_cast<int32_t>(s.context));
      keys.push_back(random.normals(s.context * kv_heads * head_size));
      values.push_back(random.normals(s.context * kv_heads * head_size));
    }
    q = random.normals(num_tokens * heads * head_size);
    assign_blocks(random);
    fill_cache();
  }

  BatchView batch() const {
    BatchView view;
    view.num_tokens = num_tokens;
    view.num_sequences = static_cast<int64_t>(shapes.size());
    view.block_size = block_size;
    view.block_table_stride = table_stride;
    view.positions = positions.data();
    view.slot_mapping = slots.data();
    view.query_start = query_start.data();
    view.context_length = context_length.data();
    view.block_table = block_table.data();
    return view;
  }
  KvCacheView cache() {
    return {k_cache.data(), v_cache.data(), dtype, num_blocks, block_size, kv_heads, head_size};
  }
  AttentionArgs args(float* out) {
    return {q.data(), heads * head_size, out, heads * head_size, heads, scale(), cache(), window, logit_softcap};
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(head_size)); }
  // First position that the query token sees.
  int64_t first_visible(int64_t token) const {
    return window == 0 ? 0 : std::max<int64_t>(0, positions[static_cast<size_t>(token)] + 1 - window);
  }
  // Takes away what no token of the step sees: blocks wholly before the window lie nowhere, and the rest is NaN.
  void forget_before_window() {
    for (size_t s = 0; s < shapes.size(); ++s) {
      const int64_t first = first_visible(query_start[s]);
      for (int64_t b = 0; b < first / block_size; ++b) {
        block_table[s * static_cast<size_t>(table_stride) + static_cast<size_t>(b)] = -(1 << 30);
      }
      const int64_t elements = kv_heads * head_size, begin = first / block_size * block_size * elements;
      std::fill(keys[s].begin() + begin, keys[s].begin() + first * elements, std::numeric_limits<float>::quiet_NaN());
      std::copy(keys[s].begin() + begin, keys[s].begin() + first * elements, values[s].begin() + begin);
      first_kept.push_back(begin / elements);
    }
    fill_cache();
  }

  // Places that hold no token are NaN (integers: with scale NaN), which must not reach any result.
  void fill_cache() {
    const int64_t head_bytes = kv_head_bytes(dtype, block_size, head_size);
    k_cache.assign(static_cast<size_t>(num_blocks * kv_heads * head_bytes), std::byte{0xFF});
    v_cache = k_cache;
    stored_keys = keys;
    stored_values = values;
    for (size_t s = 0; s < shapes.size(); ++s) {
      for (int64_t p = first_kept.empty() ? 0 : first_kept[s]; p < shapes[s].context; ++p) {
        for (int64_t h = 0; h < kv_heads; ++h) {
          const int64_t head = (slot(s, p) / block_size * kv_heads + h) * head_bytes;
          const int64_t offset = slot(s, p) % block_size;
          const size_t logical = static_cast<size_t>((p * kv_heads + h) * head_size);
          put(k_cache.data() + head, offset, offset, block_size, &keys[s][logical], &stored_keys[s][logical]);
          put(v_cache.data() + head, offset, offset * head_size, 1, &values[s][logical], &stored_values[s][logical]);
        }
      }
    }
  }

 private:
  void assign_blocks(RandomValues& random) {
    std::vector<int32_t> pool(static_cast<size_t>(num_blocks));
    std::iota(pool.begin(), pool.end(), 0);
    for (size_t i = pool.size(); i > 1; --i) std::swap(pool[i - 1], pool[random.bits() % i]);
    block_table.assign(shapes.size() * static_cast<size_t>(table_stride), -1);
    size_t next = 0;
    for (size_t s = 0; s < shapes.size(); ++s) {
      for (int64_t b = 0; b < ceil_div(shapes[s].context, block_size); ++b) {
        block_table[s * static_cast<size_t>(table_stride) + static_cast<size_t>(b)] = pool[next++];
      }
      for (int64_t p = shapes[s].context - shapes[s].queries; p < shapes[s].context; ++p) {
        positions.push_back(static_cast<int32_t>(p));
        slots.push_back(slot(s, p));
      }
    }
  }
  int64_t slot(size_t sequence, int64_t position) const {
    const int64_t entry = static_cast<int64_t>(sequence) * table_stride + position / block_size;
    return int64_t{block_table[static_cast<size_t>(entry)]} * block_size + position % block_size;
  }
  // One token's vector x, from element `first` of a head's block on, `stride` elements apart; `stored` becomes
  // what the cache then holds.
  void put(std::byte* head, int64_t token, int64_t first, int64_t stride, const float* x, float* stored) const {
    float scale = 0.0f;
    for (int64_t d = 0; d < head_size; ++d) {
      scale = std::isfinite(x[d]) ? std::max(scale, std::abs(x[d]) / 127.0f) : std::numeric_limits<float>::quiet_NaN();
      if (std::isnan(scale)) break;
    }
    if (dtype == DType::kI8) {
      std::memcpy(head + block_size * head_size + token * 4, &scale, 4);
    }
    const float inverse = scale > 0.0f ? 127.0f / largest(x) : 0.0f;
    for (int64_t d = 0; d < head_size; ++d) {
      std::byte* place = head + (first + d * stride) * dtype_block_bytes(dtype);
      if (dtype == DType::kI8) {
        const auto integer = static_cast<int8_t>(inverse == 0.0f ? 0.0f : std::nearbyint(x[d] * inverse));
        std::memcpy(place, &integer, 1);
        stored[d] = static_cast<float>(integer) * scale;
      } else if (dtype == DType::kF32) {
        std::memcpy(place, x + d, 4);
        stored[d] = x[d];
      } else {
        const uint16_t bits = dtype == DType::kF16 ? float_to_half(x[d]) : float_to_bfloat16(x[d]);
        std::memcpy(place, &bits, 2);
        stored[d] = dtype == DType::kF16 ? half_to_float(bits) : bfloat16_to_float(bits);
      }
    }
  }
  float largest(const float* x) const {
    float magnitude = 0.0f;
    for (int64_t d = 0; d < head_size; ++d) magnitude = std::max(magnitude, std::abs(x[d]));
    return magnitude;
  }
};

}  // namespace crible
