#include "model/cuda/kv_pool.h"

namespace crible::cuda {
namespace {

int64_t half_block_elements(const DecoderShape& shape) {
  return shape.kv_size() * shape.attention().block_size;
}

}  // namespace

int64_t KvPool::bytes_per_block(const DecoderShape& shape, KvType type) {
  return shape.layers * 2 * half_block_elements(shape) * kv_element_bytes(type);
}

Result<KvPool> KvPool::create(const DecoderShape& shape, int64_t num_blocks, KvType type) {
  KvPool pool;
  CRIBLE_TRY(pool.buffer_, DeviceBuffer::allocate(num_blocks * bytes_per_block(shape, type)));
  pool.type_ = type;
  pool.layers_ = shape.layers;
  pool.num_blocks_ = num_blocks;
  pool.half_block_ = half_block_elements(shape);
  return pool;
}

BlockLayout KvPool::block_layout() const {
  const int64_t block_bytes = 2 * half_block_ * kv_element_bytes(type_);
  return {.layers = layers_, .block_bytes = block_bytes, .layer_stride = num_blocks_ * block_bytes};
}

KvCache KvPool::layer(int64_t index, KvScales scales) const {
  if (type_ != KvType::kFp8) scales = {};
  const int64_t half_bytes = half_block_ * kv_element_bytes(type_);
  auto* start = buffer_.as<std::byte>() + index * num_blocks_ * 2 * half_bytes;
  return {.k = start, .v = start + half_bytes, .block_stride = 2 * half_block_, .type = type_,
          .k_scale = scales.k, .v_scale = scales.v};
}

}  // namespace crible::cuda
