#include "base/check.h"
#include "ops/half.h"
#include "ops/kv_write/kv_write.h"
#include "ops/kv_write/kv_write_kernels.h"
#include "ops/row_chunks.h"

namespace crible {

int64_t kv_cache_block_bytes(DType dtype, int64_t block_size, int64_t kv_heads, int64_t head_size) {
  return 2 * dtype_row_bytes(dtype, block_size * kv_heads * head_size);
}

namespace {

template <typename T, typename Convert>
void write_head(const float* k, const float* v, T* k_out, T* v_out, int64_t head_size, int64_t block_size,
                Convert convert) {
  for (int64_t d = 0; d < head_size; ++d) {
    k_out[d * block_size] = convert(k[d]);
    v_out[d] = convert(v[d]);
  }
}

}  // namespace

void kv_write_head_f16_scalar(const float* k, const float* v, uint16_t* k_out, uint16_t* v_out, int64_t head_size,
                              int64_t block_size) {
  write_head(k, v, k_out, v_out, head_size, block_size, float_to_half);
}

void kv_write(Stream& stream, const BatchView& batch, const KvWriteArgs& args) {
  const KvCacheView& cache = args.cache;
  CHECK(cache.dtype == DType::kF16 || cache.dtype == DType::kF32, "no KV cache of type {}",
        dtype_name(cache.dtype));
  auto* write_f16 = &kv_write_head_f16_scalar;
#if defined(__x86_64__)
  if (stream.isa() >= CpuIsa::kAvx2 && cache.head_size % 8 == 0) write_f16 = &kv_write_head_f16_avx2;
#endif
  const int64_t head_elements = cache.block_size * cache.head_size;
  for_row_chunks(stream, batch.num_tokens, cache.kv_heads * cache.head_size * 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t block = batch.slot_mapping[t] / cache.block_size;
      const int64_t offset = batch.slot_mapping[t] % cache.block_size;
      CHECK(batch.slot_mapping[t] >= 0 && block < cache.num_blocks, "slot {} is outside a cache of {} blocks",
            batch.slot_mapping[t], cache.num_blocks);
      for (int64_t h = 0; h < cache.kv_heads; ++h) {
        const float* k = args.k + t * args.k_stride + h * cache.head_size;
        const float* v = args.v + t * args.v_stride + h * cache.head_size;
        const int64_t base = (block * cache.kv_heads + h) * head_elements;
        const int64_t k_at = base + offset;
        const int64_t v_at = base + offset * cache.head_size;
        if (cache.dtype == DType::kF16) {
          write_f16(k, v, static_cast<uint16_t*>(cache.k) + k_at, static_cast<uint16_t*>(cache.v) + v_at,
                    cache.head_size, cache.block_size);
        } else {
          write_head(k, v, static_cast<float*>(cache.k) + k_at, static_cast<float*>(cache.v) + v_at, cache.head_size,
                     cache.block_size, [](float x) { return x; });
        }
      }
    }
  });
}

}  // namespace crible
