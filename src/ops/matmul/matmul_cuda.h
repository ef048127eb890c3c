// out = x · Wᵀ (+ out when accumulate) on the GPU, by cuBLASLt or by the project's own kernels
// (tiled_product_cuda.h): x [rows, K], W [N, K] row-major, out
// [rows, N]; BF16, or both operands FP8 E4M3 with float32 scales: one per row of each, or one per 128
// columns of a row of x and per 128 x 128 block of W. Sums in float32.
// Moves bytes(W) + bytes(x) + bytes(out); computes 2·rows·N·K operations.
//
// The algorithm of each shape is chosen once, at start, by measuring the candidates of both per bucket of
// rows (powers of two): tune(). A shape that was not tuned is an error. Limits: K and N multiples of 16.
// By MatmulRule::kSameBits, only algorithms are chosen that were seen to give a row the same bits wherever it
// stands and however many rows there are: one class of them for a shape, the fastest over all buckets.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "ops/matmul/fp8_rows.h"

namespace crible::cuda {

// kInt4: int4_tiles.h; not a type of this product, but of decode_linear and Int4Matmul.
enum class WeightType : uint8_t { kBf16, kFp8, kInt4 };
enum class OutputType : uint8_t { kBf16, kFloat };

enum class MatmulRule : uint8_t { kFastest, kSameBits };

struct MatmulArgs {
  WeightType type = WeightType::kBf16;  // of x and of the weight
  OutputType out_type = OutputType::kBf16;
  const void* x = nullptr;
  const float* x_scale = nullptr;  // FP8: as in Fp8Rows
  int64_t rows = 0;
  const void* weight = nullptr;
  const float* weight_scale = nullptr;  // FP8: [N]; blocks: [N / 128] rows of fp8_scale_stride(K)
  bool block_scales = false;            // FP8, both operands; x and out have fp8_padded_rows(rows)
  int64_t out_features = 0;             // N
  int64_t in_features = 0;              // K
  void* out = nullptr;
  int64_t out_stride = 0;       // elements between rows of out; 0: N
  bool accumulate = false;      // add to out: the residual connection
  bool fast_sums = false;       // FP8: sums stay in the tensor cores, which keep about 14 bits of them
  bool settled_weight = false;  // nothing enqueued writes it: it may be read while the work before still runs
};

// silu(gate) · up, where the product's weight holds the rows of gate and then those of up.
struct GatedMatmulArgs {
  MatmulArgs product;              // out: [rows, out_features], where both go if they are made apart
  __nv_bfloat16* gated = nullptr;  // [rows, out_features / 2]
  Fp8Rows quantised;               // where given, holds the result, and `gated` nothing of use
};

// What a Matmul has chosen, to be kept beyond it; at first nothing. A copy shares.
struct MatmulChoices {
  struct Tables;
  std::shared_ptr<const Tables> tables;
};

class Matmul {
 public:
  static Result<Matmul> create(MatmulRule rule = MatmulRule::kFastest);
  static int64_t workspace_bytes();
  Matmul(Matmul&&) noexcept;
  Matmul& operator=(Matmul&&) noexcept;
  ~Matmul();

  // Measures on args' own memory, which holds max_rows rows of x and out (out is overwritten; by kSameBits x
  // and its scales are, too, and the weight must hold what it will: bits are compared). Once a shape.
  Status tune(const CudaStream& stream, MatmulArgs args, int64_t max_rows);
  Status run(const CudaStream& stream, const MatmulArgs& args) const;
  // The same of a gated product: in one kernel or in two steps, whichever is faster (by kSameBits over all
  // rows). Takes the place of tune() for it.
  Status tune_gated(const CudaStream& stream, GatedMatmulArgs args, int64_t max_rows);
  Status run_gated(const CudaStream& stream, const GatedMatmulArgs& args) const;
  MatmulChoices choices() const;
  // Takes over what was chosen on a GPU of the same kind: tune() then measures nothing that is there. Choices by
  // another rule are no use and left.
  void choose_as(const MatmulChoices& other);

  struct Impl;

 private:
  Matmul();
  std::unique_ptr<Impl> impl_;
};

// A pass of its own, for rows whose maker does not quantise them. Reads 2·rows·columns bytes and writes half
// as many. columns: a multiple of 8 (blocks: 128), at most 32,768.
void quantize_rows(const CudaStream& stream, const __nv_bfloat16* x, int64_t rows, int64_t columns,
                   const Fp8Rows& out);

}  // namespace crible::cuda
