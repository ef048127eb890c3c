#include "model/weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <optional>

namespace crible {
namespace {

std::optional<DType> matrix_dtype(GgmlType type) {
  switch (type) {
    case GgmlType::kF32: return DType::kF32;
    case GgmlType::kF16: return DType::kF16;
    case GgmlType::kBF16: return DType::kBF16;
    case GgmlType::kQ8_0: return DType::kQ8_0;
    case GgmlType::kQ4_0: return DType::kQ4_0;
    case GgmlType::kQ4_1: return DType::kQ4_1;
    default: return std::nullopt;
  }
}

std::string type_label(GgmlType type) {
  const GgmlTypeInfo* info = ggml_type_info(type);
  return info != nullptr ? info->name : fmt::format("type {}", static_cast<uint32_t>(type));
}

// IEEE 754 binary16 to binary32. Every half is exactly a float.
float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x3ff) << 13);
  // A power of two moves the exponent's bias from 15 to 127, subnormals included.
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(value));
}

float element(const GgufTensor& tensor, size_t index) {
  if (tensor.type == GgmlType::kF32) {
    float value;
    std::memcpy(&value, tensor.data.data() + index * sizeof value, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, tensor.data.data() + index * sizeof bits, sizeof bits);
  return tensor.type == GgmlType::kF16 ? half_to_float(bits) : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace

Result<const GgufTensor*> WeightReader::take(const std::string& name, const std::vector<int64_t>& shape) {
  const GgufTensor* tensor = file_.find_tensor(name);
  if (tensor == nullptr) {
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} is missing", file_.path(), name);
  }
  if (tensor->shape != shape) {
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} has shape {} but the model's keys ask for {}", file_.path(),
                name, tensor->shape, shape);
  }
  taken_.insert(name);
  int64_t elements = 1;
  for (const int64_t dimension : shape) elements *= dimension;
  parameters_ += elements;
  return tensor;
}

Result<MatrixSource> WeightReader::matrix(const std::string& name, int64_t rows, int64_t columns) {
  CRIBLE_TRY(const GgufTensor* tensor, take(name, {columns, rows}));
  const auto dtype = matrix_dtype(tensor->type);
  if (!dtype) {
    return fail(ErrorCode::kUnsupported,
                "{}: the tensor {} has type {}; this build computes with F32, F16, BF16, Q8_0, Q4_0 and Q4_1", file_.path(),
                name, type_label(tensor->type));
  }
  if (columns % dtype_block_size(*dtype) != 0) {
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} has rows of {} elements, not whole blocks of {}", file_.path(),
                name, columns, dtype_block_size(*dtype));
  }
  elements_by_type_[tensor->type] += rows * columns;
  return MatrixSource{.dtype = *dtype, .rows = rows, .columns = columns, .data = tensor->data.data()};
}

Result<std::vector<float>> WeightReader::vector(const std::string& name, int64_t elements) {
  CRIBLE_TRY(const GgufTensor* tensor, take(name, {elements}));
  if (tensor->type != GgmlType::kF32 && tensor->type != GgmlType::kF16 && tensor->type != GgmlType::kBF16) {
    return fail(ErrorCode::kUnsupported, "{}: the tensor {} has type {}; F32, F16 or BF16 is needed", file_.path(), name,
                type_label(tensor->type));
  }
  std::vector<float> values(static_cast<size_t>(elements));
  for (size_t i = 0; i < values.size(); ++i) values[i] = element(*tensor, i);
  return values;
}

Status WeightReader::check_all_taken() const {
  for (const GgufTensor& tensor : file_.tensors()) {
    if (!taken_.contains(tensor.name)) {
      return fail(ErrorCode::kUnsupported,
                  "{}: the tensor {} has no place in this architecture, so the model cannot be computed as it was made",
                  file_.path(), tensor.name);
    }
  }
  return {};
}

std::string WeightReader::dominant_type() const {
  const auto most = std::max_element(elements_by_type_.begin(), elements_by_type_.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  return most == elements_by_type_.end() ? "none" : type_label(most->first);
}

}  // namespace crible
