// A step's products with a decoder's matrices, whatever their type and however many rows: BF16 and FP8 by
// Matmul; 4-bit weights as they are for up to kMaxArrangedRows rows, and for more by cuBLASLt on matrices
// unpacked to BF16 piece by piece. Makes the operand of a product together with what precedes it (norm, gate), so that
// FP8 activations cost no pass of their own. Enqueues only. Used by one thread.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "model/cuda/decoder_weights.h"
#include "ops/matmul/int4_matmul_cuda.h"
#include "ops/matmul/matmul_cuda.h"
#include "ops/rms_norm/rms_norm_cuda.h"
#include "ops/silu_mul/silu_mul_cuda.h"

namespace crible::cuda {

class MatrixProducts {
 public:
  // Working memory, slices of the decoder's arena.
  struct Room {
    uint8_t* quantised = nullptr;       // FP8: [tokens, widest input]
    float* scales = nullptr;            // FP8: [tokens, blocks of the widest input], or [tokens]
    __nv_bfloat16* unpacked = nullptr;  // 4-bit: a piece of a matrix, or what the blocks of a product share
    void* arranged = nullptr;           // 4-bit: x of a product that nothing here made
    int* counters = nullptr;            // 4-bit: kInt4Counters
  };
  // Rows that every operand and result must have room for.
  static int64_t padded_rows(WeightFormat format, int64_t max_tokens);
  static Room lay_out(DeviceArena& arena, const DecoderShape& shape, WeightFormat format, int64_t max_tokens);

  static Result<MatrixProducts> create(MatmulRule rule);
  void use(const Room& room) { room_ = room; }

  // Chooses the algorithms for up to max_rows rows of that product; out is overwritten.
  Status tune(const CudaStream& stream, const DeviceMatrix& matrix, const __nv_bfloat16* x,
              __nv_bfloat16* out, bool accumulate, int64_t max_rows);
  // The same for gated_product().
  Status tune_gated(const CudaStream& stream, const DeviceMatrix& gate_up, const __nv_bfloat16* x,
                    __nv_bfloat16* both, __nv_bfloat16* gated, const DeviceMatrix& next, int64_t max_rows);

  // norm(x) as the operand of the product with `next`: in args.out, or in the room.
  void norm(const CudaStream& stream, RmsNormArgs args, const DeviceMatrix& next) const;
  // Operand given as BF16 in memory, or made by norm() or gated_product() for this matrix.
  enum class Operand : uint8_t { kPlain, kMade };
  // out = x · matrixᵀ (+ out)
  Status run(const CudaStream& stream, const DeviceMatrix& matrix, const __nv_bfloat16* x, Operand operand,
             int64_t rows, __nv_bfloat16* out, bool accumulate) const;
  // silu(gate) · up of norm()'s x, as the operand of the product with `next`. both: [rows, 2 · columns of
  // next].
  Status gated_product(const CudaStream& stream, const DeviceMatrix& gate_up, const __nv_bfloat16* x,
                       int64_t rows, __nv_bfloat16* both, __nv_bfloat16* gated,
                       const DeviceMatrix& next) const;

  const Matmul& matmul() const { return matmul_; }
  Matmul& matmul() { return matmul_; }

 private:
  MatrixProducts(Matmul matmul, MatmulRule rule) : matmul_(std::move(matmul)), rule_(rule) {}
  bool arranges(int64_t rows) const;
  int64_t block_rows(int64_t rows) const;
  void arrange_rows(const CudaStream& stream, const __nv_bfloat16* x, int64_t rows, int64_t columns) const;
  void multiply_arranged(const CudaStream& stream, Int4Epilogue epilogue, const DeviceMatrix& matrix,
                         const void* x, int64_t rows, __nv_bfloat16* out, bool arranges) const;
  void multiply_in_passes(const CudaStream& stream, Int4Epilogue epilogue, const DeviceMatrix& matrix,
                          const __nv_bfloat16* x, int64_t rows, __nv_bfloat16* out) const;
  Fp8Rows quantised(const DeviceMatrix& next) const;
  // Of a BF16 or FP8 matrix with an operand that is made.
  MatmulArgs product_of(const DeviceMatrix& matrix, const __nv_bfloat16* x, int64_t rows, __nv_bfloat16* out,
                        bool accumulate) const;
  Status run_int4(const CudaStream& stream, const DeviceMatrix& matrix, const __nv_bfloat16* x, Operand operand,
                  int64_t rows, __nv_bfloat16* out, bool accumulate) const;

  Matmul matmul_;
  MatmulRule rule_;
  Room room_;
};

}  // namespace crible::cuda
