#include "model/cuda/decoder_weights.h"

#include <cuda_fp8.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "device/cuda/cuda_status.h"
#include "ops/fill_random/fill_random_cuda.h"
#include "ops/matmul/int4_pack_cuda.h"

namespace crible::cuda {
namespace {

constexpr float kLargestFp8 = 448.0f;

constexpr int64_t kScaleBlock = 128;  // rows and columns to an FP8 block's scale

DeviceMatrix place_matrix(DeviceArena& arena, WeightFormat format, int64_t rows, int64_t columns,
                          bool paired = false) {
  DeviceMatrix matrix = {.type = format.type, .group = format.group, .rows = rows, .columns = columns};
  switch (format.type) {
    case WeightType::kBf16: matrix.data = arena.slice<__nv_bfloat16>(rows * columns); break;
    case WeightType::kFp8:
      matrix.data = arena.slice<uint8_t>(rows * columns);
      matrix.scale =
          arena.slice<float>(format.group == 0 ? rows : rows / kScaleBlock * fp8_scale_stride(columns));
      break;
    case WeightType::kInt4:
      matrix.data = arena.slice<uint8_t>(int4_bytes(rows, columns, format.group));
      matrix.paired = paired;
      break;
  }
  return matrix;
}

Status copy_to_device(void* target, const void* source, size_t bytes) {
  return status_of(cudaMemcpy(target, source, bytes, cudaMemcpyHostToDevice), "upload weights");
}

}  // namespace

int64_t DeviceMatrix::bytes() const {
  switch (type) {
    case WeightType::kBf16: return elements() * 2;
    case WeightType::kFp8: return elements() + 4 * (group == 0 ? rows : rows / kScaleBlock * scale_stride());
    case WeightType::kInt4: return int4_bytes(rows, columns, group);
  }
  return 0;
}

void DecoderWeights::lay_out(DeviceArena& arena) {
  const DecoderShape& s = shape_;
  embedding_ = place_matrix(arena, WeightType::kBf16, s.embedding_rows(), s.embedding);
  if (s.tied) {
    head_ = embedding_;
    head_.rows = s.head_rows();
    // A null base only counts.
    if (head_.data != nullptr) {
      head_.data = static_cast<__nv_bfloat16*>(embedding_.data) + s.first_head_row() * s.embedding;
    }
  } else {
    head_ = place_matrix(arena, WeightType::kBf16, s.head_rows(), s.embedding);
  }
  output_norm_ = arena.slice<__nv_bfloat16>(s.embedding);
  layers_.clear();
  for (int64_t i = 0; i < s.layers; ++i) {
    DecoderLayer layer;
    layer.attention_norm = arena.slice<__nv_bfloat16>(s.embedding);
    layer.qkv = place_matrix(arena, format_, s.qkv_size(), s.embedding);
    if (s.qkv_bias) layer.qkv_bias = arena.slice<__nv_bfloat16>(s.qkv_size());
    if (s.qk_norm) {
      layer.q_norm = arena.slice<__nv_bfloat16>(s.head_size);
      layer.k_norm = arena.slice<__nv_bfloat16>(s.head_size);
    }
    layer.output = place_matrix(arena, format_, s.embedding, s.query_size());
    layer.feed_forward_norm = arena.slice<__nv_bfloat16>(s.embedding);
    if (s.experts > 0) {
      layer.router = place_matrix(arena, WeightType::kBf16, s.experts, s.embedding);
      layer.gate_up = place_matrix(arena, format_, s.experts * 2 * s.expert_feed_forward, s.embedding);
      layer.down = place_matrix(arena, format_, s.experts * s.embedding, s.expert_feed_forward);
    } else {
      layer.gate_up = place_matrix(arena, format_, 2 * s.feed_forward, s.embedding, /*paired=*/true);
      layer.down = place_matrix(arena, format_, s.embedding, s.feed_forward);
    }
    layers_.push_back(layer);
  }
}

int64_t DecoderWeights::bytes_for(const DecoderShape& shape, WeightFormat format) {
  DecoderWeights counted;
  counted.shape_ = shape;
  counted.format_ = format;
  DeviceArena arena;
  counted.lay_out(arena);
  return arena.used_bytes();
}

Result<DecoderWeights> DecoderWeights::allocate(const DecoderShape& shape, WeightFormat format) {
  CRIBLE_RETURN_IF_ERROR(format_fits(shape, format));
  DecoderWeights weights;
  weights.shape_ = shape;
  weights.format_ = format;
  CRIBLE_TRY(weights.buffer_, DeviceBuffer::allocate(bytes_for(shape, format)));
  DeviceArena arena(weights.buffer_.data(), weights.buffer_.bytes());
  weights.lay_out(arena);
  return weights;
}

int64_t DecoderWeights::matrix_bytes(int64_t tokens) const {
  const DecoderShape& s = shape_;
  double used = 1;  // of the experts
  if (s.experts > 0) {
    const double passed_over =
        1 - static_cast<double>(s.experts_per_token) / static_cast<double>(s.experts);
    used = 1 - std::pow(passed_over, static_cast<double>(tokens));
  }
  int64_t bytes = head().bytes();
  for (const DecoderLayer& layer : layers_) {
    bytes += layer.qkv.bytes() + layer.output.bytes() + layer.router.bytes();
    bytes += static_cast<int64_t>(used * static_cast<double>(layer.gate_up.bytes() + layer.down.bytes()));
  }
  return bytes;
}

void DecoderWeights::set_kv_scales(std::span<const KvScales> scales) {
  CHECK(scales.size() == layers_.size(), "{} scales for {} layers", scales.size(), layers_.size());
  for (size_t i = 0; i < layers_.size(); ++i) layers_[i].kv_scales = scales[i];
}

void DecoderWeights::fill_random(const CudaStream& stream, uint64_t seed) {
  constexpr float kNormDeviation = 0.1f;
  const auto vector = [&](__nv_bfloat16* data, int64_t count, float mean) {
    if (data != nullptr) crible::cuda::fill_random(stream, data, count, ++seed, mean, kNormDeviation);
  };
  const auto matrix = [&](const DeviceMatrix& m) {
    if (m.data == nullptr) return;
    const int64_t count = m.rows * m.columns;
    const float deviation = 1.0f / std::sqrt(static_cast<float>(m.columns));
    if (m.type == WeightType::kBf16) {
      crible::cuda::fill_random(stream, static_cast<__nv_bfloat16*>(m.data), count, ++seed, 0.0f, deviation);
    } else if (m.type == WeightType::kFp8) {
      fill_random_fp8(stream, static_cast<uint8_t*>(m.data), count, ++seed);
      fill_constant(stream, m.scale, m.group == 0 ? m.rows : m.rows / kScaleBlock * m.scale_stride(),
                    deviation / kFp8FillDeviation);
    } else {
      fill_random_int4(stream, m.int4(), ++seed, deviation);
    }
  };
  matrix(embedding_);
  if (!shape_.tied) matrix(head_);
  vector(output_norm_, shape_.embedding, 1.0f);
  for (const DecoderLayer& layer : layers_) {
    vector(layer.attention_norm, shape_.embedding, 1.0f);
    vector(layer.qkv_bias, shape_.qkv_size(), 0.0f);
    vector(layer.q_norm, shape_.head_size, 1.0f);
    vector(layer.k_norm, shape_.head_size, 1.0f);
    vector(layer.feed_forward_norm, shape_.embedding, 1.0f);
    for (const DeviceMatrix* m : layer.matrices()) matrix(*m);
  }
}

Status format_fits(const DecoderShape& s, WeightFormat format) {
  struct Part {
    const char* name;
    int64_t rows, columns;
  };
  for (const Part& m : {Part{"query", s.query_size(), s.embedding},
                        {"key", s.kv_size(), s.embedding},
                        {"output", s.embedding, s.query_size()},
                        {"gate", s.feed_forward, s.embedding},
                        {"down", s.embedding, s.feed_forward}}) {
    if (m.rows == 0 || m.columns == 0) continue;
    if (format.type == WeightType::kInt4 && !int4_fits(m.rows, m.columns, format.group)) {
      return fail(
          ErrorCode::kInvalidArgument,
          "the {} matrix, {} x {}, cannot be kept in 4 bits: rows must be a multiple of {}, columns of {}",
          m.name, m.rows, m.columns, kInt4TileRows, kInt4WindowColumns);
    }
    if (format.type == WeightType::kFp8 && format.group != 0 &&
        (m.rows % kScaleBlock != 0 || m.columns % kScaleBlock != 0)) {
      return fail(ErrorCode::kInvalidArgument,
                  "the {} matrix, {} x {}, is no whole blocks of {} x {} for FP8", m.name, m.rows, m.columns,
                  kScaleBlock, kScaleBlock);
    }
  }
  if (s.experts == 0) return {};
  CRIBLE_RETURN_IF_ERROR(experts_fit(s.expert_sizes()));
  if (s.experts % 16 != 0) {
    return fail(ErrorCode::kUnsupported, "a router of {} experts: on the GPU it must be a multiple of 16", s.experts);
  }
  if (format.type == WeightType::kInt4 || format.group != 0) {
    return fail(ErrorCode::kInvalidArgument,
                "experts are kept in BF16, or in FP8 with a scale per row: neither in 4 bits nor with block scales");
  }
  return {};
}

Status upload_vector(__nv_bfloat16* target, std::span<const float> values) {
  std::vector<__nv_bfloat16> rounded(values.size());
  std::transform(values.begin(), values.end(), rounded.begin(),
                 [](float v) { return __float2bfloat16_rn(v); });
  return copy_to_device(target, rounded.data(), rounded.size() * sizeof(__nv_bfloat16));
}

Status upload_rows(const DeviceMatrix& matrix, int64_t first_row, std::span<const float> values) {
  const int64_t rows = static_cast<int64_t>(values.size()) / matrix.columns;
  CHECK(first_row >= 0 && first_row + rows <= matrix.rows, "rows {} to {} of {}", first_row, first_row + rows,
        matrix.rows);
  CHECK(matrix.type == WeightType::kBf16 || (matrix.type == WeightType::kFp8 && matrix.group == 0),
        "rows of another format");
  const int64_t start = first_row * matrix.columns;
  if (matrix.type == WeightType::kBf16)
    return upload_vector(static_cast<__nv_bfloat16*>(matrix.data) + start, values);
  std::vector<uint8_t> quantised(values.size());
  std::vector<float> scales(static_cast<size_t>(rows));
  for (int64_t r = 0; r < rows; ++r) {
    const auto row =
        values.subspan(static_cast<size_t>(r * matrix.columns), static_cast<size_t>(matrix.columns));
    float largest = 0;
    for (const float v : row) largest = std::max(largest, std::abs(v));
    const float scale = largest > 0 ? largest / kLargestFp8 : 1.0f;
    scales[static_cast<size_t>(r)] = scale;
    std::transform(row.begin(), row.end(), quantised.begin() + r * matrix.columns,
                   [&](float v) { return __nv_cvt_float_to_fp8(v / scale, __NV_SATFINITE, __NV_E4M3); });
  }
  CRIBLE_RETURN_IF_ERROR(
      copy_to_device(matrix.scale + first_row, scales.data(), scales.size() * sizeof(float)));
  return copy_to_device(static_cast<uint8_t*>(matrix.data) + start, quantised.data(), quantised.size());
}

}  // namespace crible::cuda
