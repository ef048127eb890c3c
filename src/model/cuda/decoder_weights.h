// The weights of a decoder in device memory, one allocation: matrices row-major [out, in] in BF16 or FP8
// E4M3 with a float32 scale per row, norms and biases in BF16, the head and the embedding always BF16.
// Filled at random (dummy weights) or from float32 rows of the host; immutable afterwards.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "model/cuda/decoder_shape.h"
#include "ops/matmul/matmul_cuda.h"

namespace crible::cuda {

struct DeviceMatrix {
  WeightType type = WeightType::kBf16;
  int64_t rows = 0;
  int64_t columns = 0;
  void* data = nullptr;
  float* scale = nullptr;  // [rows], FP8 only
};

struct DecoderLayer {
  __nv_bfloat16* attention_norm = nullptr;  // [embedding]
  DeviceMatrix qkv;                         // q, k, v rows
  __nv_bfloat16* qkv_bias = nullptr;        // [qkv_size], or null
  __nv_bfloat16* q_norm = nullptr;          // [head_size], or null
  __nv_bfloat16* k_norm = nullptr;
  DeviceMatrix output;
  __nv_bfloat16* feed_forward_norm = nullptr;
  DeviceMatrix gate_up;  // gate rows, then up rows
  DeviceMatrix down;
};

class DecoderWeights {
 public:
  // Undefined contents. type: of the layers' matrices.
  static Result<DecoderWeights> allocate(const DecoderShape& shape, WeightType type);
  static int64_t bytes_for(const DecoderShape& shape, WeightType type);

  // Every weight: matrices with deviation 1/√columns, so that activations keep their size.
  void fill_random(const CudaStream& stream, uint64_t seed);

  const DecoderShape& shape() const { return shape_; }
  WeightType type() const { return type_; }
  int64_t bytes() const { return buffer_.bytes(); }
  std::span<const DecoderLayer> layers() const { return layers_; }
  const DeviceMatrix& embedding() const { return embedding_; }
  const DeviceMatrix& head() const { return shape_.tied ? embedding_ : head_; }
  __nv_bfloat16* output_norm() const { return output_norm_; }

 private:
  void lay_out(DeviceArena& arena);

  DecoderShape shape_;
  WeightType type_ = WeightType::kBf16;
  DeviceBuffer buffer_;
  DeviceMatrix embedding_;
  DeviceMatrix head_;  // empty when tied
  __nv_bfloat16* output_norm_ = nullptr;
  std::vector<DecoderLayer> layers_;
};

// Writes float32 rows of the host over rows [first_row, ...) of a matrix, rounded to its type.
Status upload_rows(const DeviceMatrix& matrix, int64_t first_row, std::span<const float> values);
Status upload_vector(__nv_bfloat16* target, std::span<const float> values);

}  // namespace crible::cuda
