// The weights of a decoder in device memory, one allocation: matrices row-major [out, in] in BF16, in FP8
// E4M3 with a float32 scale per row or per 128 x 128 block, or in 4 bits (int4_tiles.h); norms and biases in
// BF16, the head and the embedding always BF16. Filled at random (dummy weights), from float32 rows of the
// host, or from a checkpoint (load_decoder.h); immutable afterwards.
#pragma once

#include <cuda_bf16.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "model/cuda/decoder_shape.h"
#include "model/kv_scales.h"
#include "ops/matmul/int4_tiles.h"
#include "ops/matmul/matmul_cuda.h"

namespace crible::cuda {

// How the layers' matrices lie in memory.
struct WeightFormat {
  WeightType type = WeightType::kBf16;
  int group = 0;  // 4-bit: inputs to a scale, 32, 64 or 128; FP8: 128 for block scales, 0 for one per row

  WeightFormat() = default;
  // NOLINTNEXTLINE(google-explicit-constructor): a type alone is a format.
  WeightFormat(WeightType weight_type, int weight_group = -1)
      : type(weight_type),
        group(weight_group >= 0                  ? weight_group
              : weight_type == WeightType::kInt4 ? 128
                                                 : 0) {}

  bool operator==(const WeightFormat&) const = default;
};

struct DeviceMatrix {
  WeightType type = WeightType::kBf16;
  int group = 0;        // as in WeightFormat
  bool paired = false;  // 4-bit: gate and up rows share tiles
  int64_t rows = 0;
  int64_t columns = 0;
  void* data = nullptr;
  float* scale = nullptr;  // FP8: [rows], or [rows / 128, columns / 128] in rows of scale_stride()

  int64_t elements() const { return rows * columns; }
  int64_t bytes() const;  // scales included
  // Blocks of 128 columns, rounded up as cuBLASLt wants them.
  int64_t scale_stride() const { return fp8_scale_stride(columns); }
  Int4Matrix int4() const { return {static_cast<uint8_t*>(data), rows, columns, group, paired}; }
};

struct DecoderLayer {
  __nv_bfloat16* attention_norm = nullptr;  // [embedding]
  DeviceMatrix qkv;                         // q, k, v rows
  __nv_bfloat16* qkv_bias = nullptr;        // [qkv_size], or null
  __nv_bfloat16* q_norm = nullptr;          // [head_size], or null
  __nv_bfloat16* k_norm = nullptr;
  DeviceMatrix output;
  __nv_bfloat16* feed_forward_norm = nullptr;
  DeviceMatrix router;   // of a mixture: [experts, embedding], always BF16
  DeviceMatrix gate_up;  // gate rows, then up rows; of a mixture: of each expert in turn
  DeviceMatrix down;     // of a mixture: of each expert in turn
  KvScales kv_scales;    // of a cache in FP8

  std::array<const DeviceMatrix*, 5> matrices() const { return {&qkv, &output, &router, &gate_up, &down}; }
};

class DecoderWeights {
 public:
  // Undefined contents. kInvalidArgument where a matrix cannot lie in that format.
  static Result<DecoderWeights> allocate(const DecoderShape& shape, WeightFormat format);
  static int64_t bytes_for(const DecoderShape& shape, WeightFormat format);
  // Bytes of the matrices that a step over `tokens` tokens reads, scales included. Of a mixture the experts that
  // tokens are expected to choose, each set being as likely as another.
  int64_t matrix_bytes(int64_t tokens = 1) const;

  // Every weight: matrices with deviation 1/√columns, so that activations keep their size.
  void fill_random(const CudaStream& stream, uint64_t seed);
  // One a layer.
  void set_kv_scales(std::span<const KvScales> scales);

  const DecoderShape& shape() const { return shape_; }
  WeightType type() const { return format_.type; }
  WeightFormat format() const { return format_; }
  int64_t bytes() const { return buffer_.bytes(); }
  std::span<const DecoderLayer> layers() const { return layers_; }
  const DeviceMatrix& embedding() const { return embedding_; }
  // Of the whole model or of a rank, [head_rows(), embedding]; in the embedding where the model is tied.
  const DeviceMatrix& head() const { return head_; }
  __nv_bfloat16* output_norm() const { return output_norm_; }

 private:
  void lay_out(DeviceArena& arena);

  DecoderShape shape_;
  WeightFormat format_;
  DeviceBuffer buffer_;
  DeviceMatrix embedding_;
  DeviceMatrix head_;
  __nv_bfloat16* output_norm_ = nullptr;
  std::vector<DecoderLayer> layers_;
};

// Why no decoder of that shape has matrices in that format; OK if it has.
Status format_fits(const DecoderShape& shape, WeightFormat format);

// Writes float32 rows of the host over rows [first_row, ...) of a matrix in BF16 or FP8 with a scale per row,
// rounded to its type.
Status upload_rows(const DeviceMatrix& matrix, int64_t first_row, std::span<const float> values);
Status upload_vector(__nv_bfloat16* target, std::span<const float> values);

}  // namespace crible::cuda
