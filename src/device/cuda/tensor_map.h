// What the bulk tensor copy engine (device/cuda/tensor_copy.cuh) must know of a row-major matrix in device
// memory: where it lies, and the box of it that one copy moves. What a box covers beyond the matrix is read
// as zero and not written. Passed to kernels by value (__grid_constant__). Made on the host in well under a
// microsecond; needs no GPU work.
#pragma once

#include <cuda.h>

#include <cstdint>

namespace crible::cuda {

struct MatrixBox {
  CUtensorMapDataType type;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride_bytes = 0;  // between rows; a multiple of 16, as the matrix's address is
  int box_rows = 0;          // at most 256
  int box_columns = 0;  // at most 256; boxes of 64 or 128 bytes a row lie in shared memory with that swizzle
};

CUtensorMap make_tensor_map(const void* matrix, const MatrixBox& box);

}  // namespace crible::cuda
