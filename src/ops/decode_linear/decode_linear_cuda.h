// One matmul of a decode step with few rows, fused with what stands before and after it in the layer:
//   out = epilogue(norm(x) · Wᵀ),   x [rows, K] BF16, W [N, K] row-major in BF16 or FP8 E4M3, or
// 4-bit in int4_tiles.h's order. Bound by reading W once: N·K·(2, 1 or 0.52) bytes; rows 1 to 8 cost the
// same.
//
// One block per multiprocessor. Its eight warps share the K dimension of a tile of sixteen rows of W: a warp
// copies whole 128-byte lines of the sixteen rows asynchronously into a ring of its own in shared memory (up
// to 96 KB a multiprocessor in flight) and reads them back as first operands of mma.m16n8k16, with no barrier
// of the block between. The 16 bytes that a thread reads are the four registers of that operand as they come:
// rows g and g + 8 of the mma are the same row of W at different k, and its columns n and n + 4 the same row
// of x at those k. W needs no reshuffling, and the product no moves.
//
// 4-bit: every block reads an equal run of the matrix, groups of sixteen tiles one after the other. Where
// several share a group, the block in which it begins adds up what the others have of it, which they leave in
// device memory (shares): the blocks wait for each other, all must run at once. Without that memory blocks
// take whole groups. (BF16 and FP8 lose more by meeting than by the last tiles' idle multiprocessors.)
//
// Launched dependently, and too large in shared memory for two blocks on a multiprocessor: a block starts
// where one of the kernel before it ends, requests its first weights, prefetches more into the L2 cache, and
// only then waits for the whole of that kernel. Sums run in a fixed order, which depends on the number of
// multiprocessors and not on timing.
//
// FP8 and 4-bit weights meet x in FP16: |norm(x)| must stay below 65,504 (larger values saturate).
// Limits: rows 1 to 8; K a multiple of 64 (FP8, 4-bit: 128); N of 16 (8 for kSiluMul); x must fit in shared
// memory beside the ring: decode_linear_fits().
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "device/cuda/cuda_stream.h"
#include "ops/matmul/matmul_cuda.h"

namespace crible::cuda {

enum class DecodeEpilogue : uint8_t {
  kStore,        // BF16 out, plus bias where given
  kAddResidual,  // BF16 out += result
  kSiluMul,      // W is gate above up, [2·N, K]; BF16 out [rows, N] = silu(gate) · up
  kLogits,       // float32 out
};

// A sum and whether it is there (upper half), per block of the grid, row of x and row of W that blocks share.
// Zero before the first product; every product leaves zeros. For one product at a time.
inline constexpr int kMaxDecodeRows = 8;
inline constexpr int kMaxDecodeBlocks = 160;
inline constexpr int kMaxShareRows = 256;
inline constexpr int64_t kDecodeShares = int64_t{kMaxDecodeBlocks} * kMaxDecodeRows * kMaxShareRows;

struct DecodeLinearArgs {
  const __nv_bfloat16* x = nullptr;
  int64_t x_stride = 0;
  int rows = 1;
  const __nv_bfloat16* norm_weight = nullptr;  // [K]: RMS norm of x first; null: none
  float epsilon = 0;
  const void* weight = nullptr;
  const float* weight_scale = nullptr;  // FP8: per row of W; blocks: [N / 128] rows of fp8_scale_stride(K)
  int group = 0;  // 4-bit: inputs to a scale, 32, 64 or 128; FP8: 128 where scales are of blocks
  const __nv_bfloat16* bias = nullptr;  // [N] or null, kStore only
  void* out = nullptr;
  int64_t out_stride = 0;
  int out_features = 0;        // N
  int in_features = 0;         // K
  uint64_t* shares = nullptr;  // 4-bit: kDecodeShares; null: blocks take whole groups of tiles
  int prefetch_bytes =
      32 * 1024;  // of weights per block, into L2, before the wait, beside what the ring holds
};

bool decode_linear_fits(WeightType type, int rows, int64_t out_features, int64_t in_features,
                        DecodeEpilogue epilogue);
// Once per process, before capture: raises the kernels' limits of shared memory.
void prepare_decode_linear();
void decode_linear(const CudaStream& stream, WeightType type, DecodeEpilogue epilogue,
                   const DecodeLinearArgs& args);

}  // namespace crible::cuda
