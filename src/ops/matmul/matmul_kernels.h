// The inside of matmul: the packed weight layout, and one rectangle of work as kernels take it.
//
// Layout. Rows are packed in groups of 16 (zero rows fill the last group), so that one load serves
// 16 rows × a few k and an activation is broadcast once for all of them. A group is a sequence of
// blocks along K:
//   F32, F16, BF16   block = one k: 16 values.
//   Q8_0             block = 32 k: 16 half scales, then for each 4 k (at k0): 16 × 4 bytes, holding
//                    k0, k0+2, k0+1, k0+3 of one row, so that a shift by 8 leaves 16-bit pairs.
//   Q4_0, Q4_1       block = 32 k: 16 half scales (Q4_1: and 16 half minima), then for each 8 k:
//                    16 × one 32-bit word; nibble j of its low half is k0+2j, of its high half k0+2j+1.
// A packed block takes as many bytes as its 16 source blocks.
//
// Arithmetic, the same in every kernel, so that all of them agree bit for bit: activations are
// 16-bit integers with one float32 scale per block of 32; products are summed exactly in 32-bit
// integers within a block; blocks are added in ascending order by fused multiply-add into one
// float32 accumulator per output. Float weights: one fused multiply-add per k, ascending.
//
// This header holds no functions with bodies: it is read by files compiled for several instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>

namespace crible {

inline constexpr int64_t kPackRows = 16;
inline constexpr int64_t kQuantBlock = 32;
inline constexpr int64_t kMaxTaskRows = 192;  // rows of one task: kernels keep their sums on the stack

// Rows of x as the quantised kernels read them.
struct QuantisedRows {
  int16_t* values;  // [rows, columns]
  float* scales;    // [rows, columns / 32]
  float* sums;      // [rows, columns / 32] scale · sum of the block's values: multiplies Q4_1's minimum
  int32_t* offsets; // [rows, columns / 32] -8 · sum of the block's values: centres Q4_0's nibbles
};

struct MatmulTask {
  const std::byte* weights;  // first group of the matrix
  int64_t group_bytes;
  int64_t columns;           // K
  const float* x;            // float weights only
  int64_t x_stride;
  QuantisedRows quantised;   // quantised weights only
  float* out;
  int64_t out_stride;
  int64_t out_columns;       // N: the last group may reach beyond it
  const float* bias;         // [N] or null
  bool accumulate;
  int64_t group_begin, group_end;
  int64_t row_begin, row_end;
};

using MatmulKernel = void (*)(const MatmulTask& task);
// Quantises `rows` rows of x into q, whose pointers stand at the first of them.
using QuantiseRowsKernel = void (*)(const float* x, int64_t x_stride, int64_t rows, int64_t columns,
                                    const QuantisedRows& q);

struct MatmulKernels {
  QuantiseRowsKernel quantise_rows;
  MatmulKernel f32, f16, bf16, q8_0, q4_0, q4_1;
};

const MatmulKernels& matmul_kernels_scalar();
#if defined(__x86_64__)
const MatmulKernels& matmul_kernels_avx2();
const MatmulKernels& matmul_kernels_avx512();
#endif

}  // namespace crible
