#include "base/check.h"
#include "ops/kv_write/kv_write.h"
#include "ops/kv_write/kv_write_kernels.h"
#include "ops/row_chunks.h"

namespace crible {

int64_t kv_head_bytes(DType dtype, int64_t block_size, int64_t head_size) {
  const int64_t scales = dtype == DType::kI8 ? block_size * static_cast<int64_t>(sizeof(float)) : 0;
  return dtype_row_bytes(dtype, block_size * head_size) + scales;
}

int64_t kv_cache_block_bytes(DType dtype, int64_t block_size, int64_t kv_heads, int64_t head_size) {
  return 2 * kv_heads * kv_head_bytes(dtype, block_size, head_size);
}

namespace {

KvWriteKernel kernel_for(CpuIsa isa, DType dtype, int64_t head_size) {
  const KvWriteKernels* kernels = &kv_write_kernels_scalar();
#if defined(__x86_64__)
  if (isa >= CpuIsa::kAvx2 && head_size % 8 == 0) kernels = &kv_write_kernels_avx2();
#endif
  switch (dtype) {
    case DType::kF32: return kernels->f32;
    case DType::kF16: return kernels->f16;
    case DType::kBF16: return kernels->bf16;
    case DType::kI8: return kernels->i8;
    default: break;
  }
  CHECK(false, "no KV cache of type {}", dtype_name(dtype));
  return nullptr;
}

KvHeadSlot slot_at(const KvCacheView& cache, int64_t block, int64_t offset, int64_t head) {
  const int64_t element = dtype_block_bytes(cache.dtype);
  const int64_t base = (block * cache.kv_heads + head) * kv_head_bytes(cache.dtype, cache.block_size, cache.head_size);
  std::byte* k = static_cast<std::byte*>(cache.k) + base;
  std::byte* v = static_cast<std::byte*>(cache.v) + base;
  KvHeadSlot slot = {};
  slot.k = k + offset * element;
  slot.v = v + offset * cache.head_size * element;
  slot.head_size = cache.head_size;
  slot.block_size = cache.block_size;
  if (cache.dtype == DType::kI8) {
    const int64_t scales = cache.block_size * cache.head_size + offset * static_cast<int64_t>(sizeof(float));
    slot.k_scale = reinterpret_cast<float*>(k + scales);
    slot.v_scale = reinterpret_cast<float*>(v + scales);
  }
  return slot;
}

}  // namespace

void kv_write(Stream& stream, const BatchView& batch, const KvWriteArgs& args) {
  const KvCacheView& cache = args.cache;
  const KvWriteKernel write = kernel_for(stream.isa(), cache.dtype, cache.head_size);
  for_row_chunks(stream, batch.num_tokens, cache.kv_heads * cache.head_size * 4, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t block = batch.slot_mapping[t] / cache.block_size;
      const int64_t offset = batch.slot_mapping[t] % cache.block_size;
      CHECK(batch.slot_mapping[t] >= 0 && block < cache.num_blocks, "slot {} is outside a cache of {} blocks",
            batch.slot_mapping[t], cache.num_blocks);
      for (int64_t h = 0; h < cache.kv_heads; ++h) {
        write(args.k + t * args.k_stride + h * cache.head_size, args.v + t * args.v_stride + h * cache.head_size,
              slot_at(cache, block, offset, h));
      }
    }
  });
}

}  // namespace crible
