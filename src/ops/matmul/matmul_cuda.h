// out = x · Wᵀ (+ out when accumulate) on the GPU by cuBLASLt: x [rows, K], W [N, K] row-major, out
// [rows, N]; BF16, or both operands FP8 E4M3 with one float32 scale per row of each. Sums in float32.
// Moves bytes(W) + bytes(x) + bytes(out); computes 2·rows·N·K operations.
//
// The algorithm of each shape is chosen once, at start, by measuring cuBLASLt's candidates per bucket of
// rows (powers of two): tune(). A shape that was not tuned is an error. Limits: K and N multiples of 16.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"

namespace crible::cuda {

enum class WeightType : uint8_t { kBf16, kFp8 };
enum class OutputType : uint8_t { kBf16, kFloat };

struct MatmulArgs {
  WeightType type = WeightType::kBf16;  // of x and of the weight
  OutputType out_type = OutputType::kBf16;
  const void* x = nullptr;
  const float* x_scale = nullptr;  // [rows], FP8 only
  int64_t rows = 0;
  const void* weight = nullptr;
  const float* weight_scale = nullptr;  // [N], FP8 only
  int64_t out_features = 0;             // N
  int64_t in_features = 0;              // K
  void* out = nullptr;
  bool accumulate = false;  // add to out: the residual connection
};

class Matmul {
 public:
  static Result<Matmul> create();
  static int64_t workspace_bytes();
  Matmul(Matmul&&) noexcept;
  Matmul& operator=(Matmul&&) noexcept;
  ~Matmul();

  // Measures on args' own memory, which holds max_rows rows of x and out (out is overwritten). Once a shape.
  Status tune(const CudaStream& stream, MatmulArgs args, int64_t max_rows);
  Status run(const CudaStream& stream, const MatmulArgs& args) const;

 private:
  Matmul();
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// q[r] = x[r] / scale[r] in FP8 E4M3 with scale[r] = max|x[r]| / 448, for the FP8 matmul. Reads
// 2·rows·columns bytes and writes half as many. columns: a multiple of 8, at most 32,768.
void quantize_rows(const CudaStream& stream, const __nv_bfloat16* x, int64_t rows, int64_t columns,
                   uint8_t* q, float* scale);

}  // namespace crible::cuda
