// Weights in a file's layout as float32, element by element in the order of operations that the format's
// reference implementation has (the Python package `gguf`): equal to it bit for bit. Portable and
// unhurried; products use the packed matrix (matmul.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/dtype.h"

namespace crible {

// blocks: n elements of one row in their file layout, n a multiple of dtype_block_size(dtype), dtype a weight type
// (not kI32). out [n].
void dequantize(DType dtype, const std::byte* blocks, int64_t n, float* out);

}  // namespace crible
