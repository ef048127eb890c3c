#include "model/cuda/kv_pool.h"

namespace crible::cuda {
namespace {

int64_t half_block_elements(const DecoderShape& shape) {
  return shape.kv_size() * shape.attention().block_size;
}

}  // namespace

int64_t KvPool::bytes_per_block(const DecoderShape& shape) {
  return shape.layers * 2 * half_block_elements(shape) * static_cast<int64_t>(sizeof(__nv_bfloat16));
}

Result<KvPool> KvPool::create(const DecoderShape& shape, int64_t num_blocks) {
  KvPool pool;
  CRIBLE_TRY(pool.buffer_, DeviceBuffer::allocate(num_blocks * bytes_per_block(shape)));
  pool.num_blocks_ = num_blocks;
  pool.half_block_ = half_block_elements(shape);
  return pool;
}

KvCache KvPool::layer(int64_t index) const {
  auto* start = buffer_.as<__nv_bfloat16>() + index * num_blocks_ * 2 * half_block_;
  return {.k = start, .v = start + half_block_, .block_stride = 2 * half_block_};
}

}  // namespace crible::cuda
