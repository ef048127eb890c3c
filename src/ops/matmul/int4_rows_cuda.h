// out = x · Wᵀ (+ out) for up to 64 rows of x and 4-bit weights (int4_tiles.h), in one pass over W: a decode
// step of several streams. BF16 x and out, the integers exact in BF16, sums over a group scaled in float32.
// Bound by reading W, 0.52 bytes a weight, up to some 32 rows, by the tensor cores above.
//
// A block takes 64 or 128 rows of W; its warps share what is staged of x. Where that makes too few blocks for
// the GPU, the blocks of a cluster share K and add up through distributed shared memory, in a fixed order.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/matmul/int4_tiles.h"

namespace crible::cuda {

enum class Int4RowsEpilogue : uint8_t {
  kStore,
  kAddResidual,  // out += result
  kSiluMul,      // W paired: out [rows, N / 2] = silu(gate) · up
};

struct Int4RowsArgs {
  const __nv_bfloat16* x = nullptr;  // [rows, K]
  int64_t rows = 0;
  Int4Matrix weight;
  __nv_bfloat16* out = nullptr;
  int64_t out_stride = 0;
  bool same_bits = false;  // a row's bits do not depend on how many there are
};

inline constexpr int64_t kMaxInt4Rows = 64;

// Once per process, before capture.
void prepare_int4_rows();
void int4_rows(const CudaStream& stream, Int4RowsEpilogue epilogue, const Int4RowsArgs& args);

}  // namespace crible::cuda
