// The paged KV cache of all layers on the GPU, BF16 or FP8: [layers][blocks][K, V][kv_heads][16][head_size].
// A block's keys and values of one layer lie together, so that it can be copied or moved as a whole.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "device/cuda/device_buffer.h"
#include "model/cuda/decoder_shape.h"
#include "model/kv_scales.h"

namespace crible::cuda {

// Where one block's content lies: a run of block_bytes in each layer.
struct BlockLayout {
  int64_t layers = 0;
  int64_t block_bytes = 0;
  int64_t layer_stride = 0;  // bytes
};

class KvPool {
 public:
  static Result<KvPool> create(const DecoderShape& shape, int64_t num_blocks, KvType type = KvType::kBf16);
  static int64_t bytes_per_block(const DecoderShape& shape, KvType type = KvType::kBf16);  // of all layers

  // The scales are those of FP8; BF16 is stored as it is.
  KvCache layer(int64_t index, KvScales scales = {}) const;
  KvType type() const { return type_; }
  int64_t num_blocks() const { return num_blocks_; }
  int64_t bytes() const { return buffer_.bytes(); }
  BlockLayout block_layout() const;
  std::byte* block(int64_t index) const {
    return buffer_.as<std::byte>() + index * block_layout().block_bytes;
  }
  void* data() const { return buffer_.data(); }

 private:
  DeviceBuffer buffer_;
  int64_t layers_ = 0;
  int64_t num_blocks_ = 0;
  int64_t half_block_ = 0;  // elements of K in a block of one layer
  KvType type_ = KvType::kBf16;
};

}  // namespace crible::cuda
