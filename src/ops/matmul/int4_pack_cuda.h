// 4-bit weights as checkpoints hold them into int4_tiles.h's order, and back to BF16 rows, on the device. All
// are exact: scales that FP16 holds are kept, integers and zero points always; unpacking rounds each weight
// once to BF16.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/matmul/int4_tiles.h"

namespace crible::cuda {

enum class Int4Source : uint8_t {
  kAwq,   // quantised_linear.h
  kGptq,  // quantised_linear.h, four bits, groups in order
  kQ4_0,  // ggml: blocks of a scale and 32 nibbles, zero point 8
};
enum class Int4ScaleType : uint8_t { kF16, kBf16, kF32 };

// A matrix [rows, columns] on the device as the file has it.
struct RawInt4 {
  Int4Source source = Int4Source::kAwq;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t group = 128;            // inputs to a scale; 32 for Q4_0
  const void* qweight = nullptr;  // Q4_0: the blocks; the two others unused
  const void* qzeros = nullptr;
  const void* scales = nullptr;
  Int4ScaleType scale_type = Int4ScaleType::kF16;
  bool zeros_less_one = false;
};

// Over the rows [first_row, first_row + raw.rows) of the target, both multiples of 8. Writes 0.52 bytes a
// weight and reads as many.
void pack_int4(const CudaStream& stream, const RawInt4& raw, const Int4Matrix& target, int64_t first_row);

// out[r, k] = row first_row + r of the matrix; rows and first_row multiples of 8. Writes 2 bytes a weight.
void unpack_int4(const CudaStream& stream, const Int4Matrix& matrix, int64_t first_row, int64_t rows,
                 __nv_bfloat16* out);

// Reproducible random integers, zero points 7 and 8, weights of the given deviation.
void fill_random_int4(const CudaStream& stream, const Int4Matrix& matrix, uint64_t seed, float deviation);

}  // namespace crible::cuda
