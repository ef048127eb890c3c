// From a file's layout (block_formats.h) to the packed one (packed_layout.h), and back row by row.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cpu/cpu_features.h"
#include "device/dtype.h"
#include "ops/matmul/packed_layout.h"
#include "ops/matmul/value_packing.h"

namespace crible {

// Bytes of one row of `columns` elements in a packed group.
int64_t packed_row_bytes(DType dtype, int64_t columns);

// Packs 16 rows, each of `columns` elements in its file layout, into a group.
void pack_group(CpuIsa isa, DType dtype, FullGroup rows, int64_t columns, std::byte* group);

// Row `lane` of a group as float32: what dequantize() gives for the row that was packed, bit for bit.
void unpack_row(DType dtype, const std::byte* group, int64_t lane, int64_t columns, float* out);

}  // namespace crible
