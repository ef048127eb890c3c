// A 64-bit hash of each row of a matrix: whether two rows have the same bits, without moving them.
#pragma once

#include <cstdint>

#include "device/cuda/cuda_stream.h"

namespace crible::cuda {

// row_bytes: a multiple of 4. hashes: device, [rows].
void hash_rows(const CudaStream& stream, const void* data, int64_t rows, int64_t row_bytes, uint64_t* hashes);

}  // namespace crible::cuda
