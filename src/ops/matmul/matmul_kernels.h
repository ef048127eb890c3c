// The inside of matmul: one rectangle of work as kernels take it, and which kernels there are.
//
// Arithmetic, the same in every kernel, so that all of them agree bit for bit: activations are 16-bit
// integers with one float32 scale per block of 32; products are summed exactly in 32-bit integers
// within a sub-block of 32 or 16 (at most 32 · 32767 · 128 < 2²⁷); sub-blocks are added in ascending
// order by fused multiply-add into one float32 accumulator per output, each as sum · (weight scale ·
// activation scale), and after it, where the type has one, minimum · (scaled sum of activations). A
// sub-block's own scale is the product that the format defines, rounded to float32 first. Float weights:
// one fused multiply-add per k, ascending, BF16 ones too: on the Xeon measured vdpbf16ps does half the multiply-adds a
// cycle that vfmadd does, and it rounds activations to 8 bits and sums in another order.
//
// This header holds no functions with bodies: it is read by files compiled for several instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "device/cpu/cpu_features.h"
#include "device/dtype.h"
#include "ops/matmul/packed_layout.h"

namespace crible {

inline constexpr int64_t kMaxTaskRows = 192;  // rows of one task: kernels keep their sums on the stack
inline constexpr int64_t kRowTile = 16;       // rows of a tile register

// Rows of x as the quantised kernels read them (quantised_rows.h places them).
struct QuantisedRows {
  int16_t* values;     // [rows, columns]
  float* scales;       // [rows, columns / 32]
  float* sums;         // [rows, columns / 32] scale · sum of the block's values: multiplies a minimum
  int32_t* half_sums;  // [rows, columns / 16] sum of the half block's values: centres unsigned weights
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
  int64_t row_begin, row_end;  // at most kMaxTaskRows
};

using MatmulKernel = void (*)(const MatmulTask& task);
// Quantises `rows` rows of x into q, whose pointers stand at the first of them.
using QuantiseRowsKernel = void (*)(const float* x, int64_t x_stride, int64_t rows, int64_t columns,
                                    const QuantisedRows& q);

struct FloatKernels {
  MatmulKernel f32, f16, bf16;
};
struct BlockKernels {  // 32 elements with a scale of their own
  MatmulKernel q8_0, q4_0, q4_1, q5_0, q5_1;
};
struct SuperBlockKernels {  // 256 elements in sub-blocks
  MatmulKernel q4_k, q5_k, q6_k;
};

void quantise_rows_scalar(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q);
const FloatKernels& float_kernels_scalar();
const BlockKernels& block_kernels_scalar();
const SuperBlockKernels& super_block_kernels_scalar();
#if defined(__x86_64__)
void quantise_rows_avx2(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q);
const FloatKernels& float_kernels_avx2();
const BlockKernels& block_kernels_avx2();
const SuperBlockKernels& super_block_kernels_avx2();
void quantise_rows_avx512(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q);
const FloatKernels& float_kernels_avx512();
const BlockKernels& block_kernels_avx512();
const SuperBlockKernels& super_block_kernels_avx512();
// Of some rows of one tile, in the layout of amx_tiles.h, where q.values is the first one's place: for weights of bytes,
// and for all others.
void quantise_rows_amx_bytes(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q);
void quantise_rows_amx_nibbles(const float* x, int64_t x_stride, int64_t rows, int64_t columns, const QuantisedRows& q);
const BlockKernels& block_kernels_amx();
const SuperBlockKernels& super_block_kernels_amx();
#endif

QuantiseRowsKernel quantise_rows_kernel(CpuIsa isa);
MatmulKernel matmul_kernel(CpuIsa isa, DType dtype);  // of a weight type
// What goes together for a product of `rows` rows: tile registers read activations in a layout of their own.
struct MatmulMethod {
  QuantiseRowsKernel quantise;  // null for float weights
  bool in_tiles;                // of kRowTile rows each (amx_tiles.h)
  MatmulKernel multiply;
};
MatmulMethod matmul_method(CpuIsa isa, DType dtype, int64_t rows);
// Rows that one task should take of `rows`: their activations stay in the second-level cache. At most kMaxTaskRows.
int64_t matmul_rows_per_task(DType dtype, int64_t rows, int64_t columns);

}  // namespace crible
