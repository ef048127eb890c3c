// Element types of tensors on a device, with the block layouts of the ggml formats they come from.
#pragma once

#include <cstdint>

namespace crible {

enum class DType : uint8_t {
  kF32, kF16, kBF16, kI8, kI32, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4_K, kQ5_K, kQ6_K,
};

const char* dtype_name(DType dtype);           // "q4_1"
int64_t dtype_block_size(DType dtype);         // elements per block: 1; 32 or (K types) 256 where quantised
int64_t dtype_block_bytes(DType dtype);        // bytes per block
inline int64_t dtype_row_bytes(DType dtype, int64_t columns) {
  return columns / dtype_block_size(dtype) * dtype_block_bytes(dtype);
}

}  // namespace crible
