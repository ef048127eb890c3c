// The paged KV cache of all layers on the GPU, BF16: [layers][blocks][K, V][kv_heads][16][head_size]. A
// block's keys and values of one layer lie together, so that it can be copied or moved as a whole.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "device/cuda/device_buffer.h"
#include "model/cuda/decoder_shape.h"

namespace crible::cuda {

class KvPool {
 public:
  static Result<KvPool> create(const DecoderShape& shape, int64_t num_blocks);
  static int64_t bytes_per_block(const DecoderShape& shape);  // of all layers

  KvCache layer(int64_t index) const;
  int64_t num_blocks() const { return num_blocks_; }
  int64_t bytes() const { return buffer_.bytes(); }
  void* data() const { return buffer_.data(); }

 private:
  DeviceBuffer buffer_;
  int64_t num_blocks_ = 0;
  int64_t half_block_ = 0;  // elements of K in a block of one layer
};

}  // namespace crible::cuda
