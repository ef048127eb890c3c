// Where a call's quantised activations lie in scratch memory, and who quantises them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/stream.h"
#include "ops/matmul/matmul_kernels.h"

namespace crible {

int64_t quantised_rows_bytes(int64_t rows, int64_t columns);
// The arrays of `rows` rows in `memory`, which is 64-byte aligned and quantised_rows_bytes() long.
QuantisedRows place_quantised_rows(std::byte* memory, int64_t rows, int64_t columns);
// The same arrays from row `first` on.
QuantisedRows from_row(const QuantisedRows& rows, int64_t first, int64_t columns);

// Quantises all rows of x [rows, columns] on the stream's threads, as matmul_kernel()'s or as the method's kernels read them.
void quantise_rows(Stream& stream, const float* x, int64_t x_stride, int64_t rows, int64_t columns,
                   const QuantisedRows& quantised);
void quantise_rows(Stream& stream, const float* x, int64_t x_stride, int64_t rows, int64_t columns,
                   const QuantisedRows& quantised, const MatmulMethod& method);

}  // namespace crible
