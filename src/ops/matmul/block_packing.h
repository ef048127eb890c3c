// From a file's layout (block_formats.h) to the packed one (packed_layout.h), and back row by row.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "device/dtype.h"
#include "ops/matmul/packed_layout.h"

namespace crible {

// Bytes of one row of `columns` elements in a packed group.
int64_t packed_row_bytes(DType dtype, int64_t columns);

// Packs up to 16 rows, each of `columns` elements in its file layout, into a group; absent rows become zeros.
void pack_group(DType dtype, std::span<const std::byte* const> rows, int64_t columns, std::byte* group);

// Row `lane` of a group as float32: what dequantize() gives for the row that was packed, bit for bit.
void unpack_row(DType dtype, const std::byte* group, int64_t lane, int64_t columns, float* out);

}  // namespace crible
