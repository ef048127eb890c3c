// One matmul of a decode step with few rows, fused with what stands before and after it in the layer:
//   out = epilogue(norm(x) · Wᵀ),   x [rows, K] BF16, W [N, K] row-major in BF16 or FP8 E4M3.
// Bound by reading W once: N·K·(2 or 1) bytes; rows 1 to 8 cost the same.
//
// One block per multiprocessor; sixteen warps share the K dimension of a tile of sixteen rows of W and
// stream it with 16-byte loads straight into the operands of mma.m16n8k16, four in flight per row and
// thread (64 KB a multiprocessor). The order of W's elements within a window is the same permutation on
// both sides of the product, so W needs no reshuffling. The kernel is launched dependently: it loads its
// first weights and prefetches more into the L2 cache before it waits for the kernel before it. Sums run
// in a fixed order: results do not depend on timing.
//
// FP8 weights meet x in FP16: |norm(x)| must stay below 65,504 (larger values saturate).
// Limits: rows 1 to 8; K a multiple of 64; N of 16 (8 for kSiluMul); x in shared memory: decode_linear_fits().
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

struct DecodeLinearArgs {
  const __nv_bfloat16* x = nullptr;
  int64_t x_stride = 0;
  int rows = 1;
  const __nv_bfloat16* norm_weight = nullptr;  // [K]: RMS norm of x first; null: none
  float epsilon = 0;
  const void* weight = nullptr;
  const float* weight_scale = nullptr;  // FP8: per row of W
  const __nv_bfloat16* bias = nullptr;  // [N] or null, kStore only
  void* out = nullptr;
  int64_t out_stride = 0;
  int out_features = 0;  // N
  int in_features = 0;   // K
};

// How far a kernel reaches ahead of its predecessor, and when it lets its successor start.
struct DecodeSchedule {
  int prefetch_bytes = 128 * 1024;  // of weights per block, into L2, before the wait
  int trigger_tiles = 1;            // tiles before a block's last at which the next kernel may start
};

inline constexpr int kMaxDecodeRows = 8;

bool decode_linear_fits(int rows, int64_t out_features, int64_t in_features, DecodeEpilogue epilogue);
// Once per process, before capture: raises the kernels' limits of shared memory.
void prepare_decode_linear();
void decode_linear(const CudaStream& stream, WeightType type, DecodeEpilogue epilogue, const DecodeLinearArgs& args,
                   const DecodeSchedule& schedule);

}  // namespace crible::cuda
