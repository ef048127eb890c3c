// out = x · Wᵀ (+ out) for 4-bit weights (int4_tiles.h) and any number of rows of x, arranged
// (int4_arrange_cuda.h) in blocks of int4_block_rows(). BF16 x and out, sums in float32. W is read once per
// block of rows, and its weights become operands in registers: in blocks of up to 64 rows they are the
// integers less their zero point, exact in BF16, and sums over a group are scaled in float32; in larger
// blocks weights are scaled first and rounded once to BF16.
//
// One block per multiprocessor: a producer keeps a ring of stages filled by bulk copies (128 columns of
// 256 rows of W and of the block of x), four warpgroups unpack and multiply by wgmma. The work is all
// windows of 128 columns of all tiles, one after the other, and every block takes an equal run of them:
// tiles that several blocks share are added up through device memory in the order of K, each adding its
// share, so that results do not depend on timing. The blocks wait for each other: all must run at once.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/matmul/int4_tiles.h"

namespace crible::cuda {

enum class Int4Epilogue : uint8_t {
  kStore,
  kAddResidual,  // out += result
  kSiluMul,      // W paired: out [rows, N / 2] = silu(gate) · up
};

// Multiprocessors that a product uses at most.
inline constexpr int kMaxInt4Blocks = 144;
inline constexpr int64_t kLargestInt4Block = 128;  // rows of x

// Device memory where blocks that share a tile meet; for one product at a time. A product leaves the counters
// as it found them.
struct Int4Meeting {
  int* counters = nullptr;  // kInt4Counters, zero
  void* sums = nullptr;     // kInt4SumBytes
};
inline constexpr int64_t kInt4Counters = kMaxInt4Blocks * 4 * 2;
inline constexpr int64_t kInt4SumBytes = kMaxInt4Blocks * 2 * 256 * kLargestInt4Block * 4;

struct Int4MatmulArgs {
  const void* x = nullptr;  // arranged
  int64_t rows = 0;
  int64_t block = 0;  // rows of x that lie together: int4_block_rows()
  Int4Matrix weight;
  __nv_bfloat16* out = nullptr;
  int64_t out_stride = 0;
  bool arranges = false;  // kSiluMul: out is arranged, in blocks as x, out_stride columns wide
  Int4Meeting meeting;
};

// 8, 16, 32, 64 or 128.
int64_t int4_block_rows(int64_t rows);

// Once per process, before capture.
void prepare_int4_matmul();
void int4_matmul(const CudaStream& stream, Int4Epilogue epilogue, const Int4MatmulArgs& args);

}  // namespace crible::cuda
