#include "model/gguf_checkpoint.h"

#include <fmt/ranges.h>

#include <bit>
#include <cstring>
#include <optional>
#include <set>

#include "ops/half.h"

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
    case GgmlType::kQ5_0: return DType::kQ5_0;
    case GgmlType::kQ5_1: return DType::kQ5_1;
    case GgmlType::kQ4_K: return DType::kQ4_K;
    case GgmlType::kQ5_K: return DType::kQ5_K;
    case GgmlType::kQ6_K: return DType::kQ6_K;
    default: return std::nullopt;
  }
}

std::string type_label(GgmlType type) {
  const GgmlTypeInfo* info = ggml_type_info(type);
  return info != nullptr ? info->name : fmt::format("type {}", static_cast<uint32_t>(type));
}

float element(const GgufTensor& tensor, size_t index) {
  if (tensor.type == GgmlType::kF32) {
    float value;
    std::memcpy(&value, tensor.data.data() + index * sizeof value, sizeof value);
    return value;
  }
  uint16_t bits;
  std::memcpy(&bits, tensor.data.data() + index * sizeof bits, sizeof bits);
  return tensor.type == GgmlType::kF16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

class GgufCheckpoint final : public Checkpoint {
 public:
  GgufCheckpoint(GgufFile file, ConfigKeys config)
      : Checkpoint(file.path(), std::move(config)), file_(std::move(file)) {}

  // llama.cpp's converter permutes query and key rows of this one architecture.
  RopePairing rope_pairing() const override {
    return config().architecture() == "llama" ? RopePairing::kInterleaved : RopePairing::kHalves;
  }
  bool has(std::string_view name) const override { return file_.find_tensor(name) != nullptr; }
  Result<int64_t> rows(const std::string& name) const override;
  Result<MatrixSource> matrix(const std::string& name, int64_t rows, int64_t columns) override;
  Result<std::vector<MatrixSource>> experts(const std::string& name, int64_t count, int64_t rows,
                                            int64_t columns) override;
  Result<std::vector<float>> vector(const std::string& name, int64_t elements) override;
  Status check_all_taken() const override;
  std::vector<TensorSummary> tensors() const override;

 private:
  Result<const GgufTensor*> find(const std::string& name) const;
  Result<const GgufTensor*> take(const std::string& name, const std::vector<int64_t>& shape);
  Result<MatrixSource> take_blocks(const std::string& name, const std::vector<int64_t>& shape);

  GgufFile file_;
  std::set<std::string, std::less<>> taken_;
};

Result<const GgufTensor*> GgufCheckpoint::find(const std::string& name) const {
  const GgufTensor* tensor = file_.find_tensor(name);
  if (tensor == nullptr) {
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} is missing", path(), name);
  }
  return tensor;
}

Result<const GgufTensor*> GgufCheckpoint::take(const std::string& name, const std::vector<int64_t>& shape) {
  CRIBLE_TRY(const GgufTensor* tensor, find(name));
  if (tensor->shape != shape) {
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} has shape {} but the model's keys ask for {}", path(), name,
                tensor->shape, shape);
  }
  taken_.insert(name);
  return tensor;
}

// All matrices of a stack as one with the rows of all.
Result<MatrixSource> GgufCheckpoint::take_blocks(const std::string& name, const std::vector<int64_t>& shape) {
  CRIBLE_TRY(const GgufTensor* tensor, take(name, shape));
  const auto dtype = matrix_dtype(tensor->type);
  if (!dtype) {
    return fail(ErrorCode::kUnsupported,
                "{}: the tensor {} has type {}; this build computes with F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K", path(),
                name, type_label(tensor->type));
  }
  const int64_t columns = tensor->columns(), rows = tensor->rows();
  if (columns % dtype_block_size(*dtype) != 0) {
    return fail(ErrorCode::kCorrupt, "{}: the tensor {} has rows of {} elements, not whole blocks of {}", path(), name,
                columns, dtype_block_size(*dtype));
  }
  count_matrix(type_label(tensor->type), rows * columns);
  return MatrixSource{.dtype = *dtype, .rows = rows, .columns = columns, .data = tensor->data.data()};
}

Result<int64_t> GgufCheckpoint::rows(const std::string& name) const {
  CRIBLE_TRY(const GgufTensor* tensor, find(name));
  return tensor->rows();
}

Result<MatrixSource> GgufCheckpoint::matrix(const std::string& name, int64_t rows, int64_t columns) {
  return take_blocks(name, {columns, rows});
}

Result<std::vector<MatrixSource>> GgufCheckpoint::experts(const std::string& name, int64_t count, int64_t rows,
                                                          int64_t columns) {
  CRIBLE_TRY(const MatrixSource stack, take_blocks(name, {columns, rows, count}));
  std::vector<MatrixSource> experts;
  const int64_t expert_bytes = rows * dtype_row_bytes(stack.dtype, columns);
  for (int64_t i = 0; i < count; ++i) {
    experts.push_back({.dtype = stack.dtype, .rows = rows, .columns = columns, .data = stack.data + i * expert_bytes});
  }
  return experts;
}

Result<std::vector<float>> GgufCheckpoint::vector(const std::string& name, int64_t elements) {
  CRIBLE_TRY(const GgufTensor* tensor, take(name, {elements}));
  if (tensor->type != GgmlType::kF32 && tensor->type != GgmlType::kF16 && tensor->type != GgmlType::kBF16) {
    return fail(ErrorCode::kUnsupported, "{}: the tensor {} has type {}; F32, F16 or BF16 is needed", path(), name,
                type_label(tensor->type));
  }
  count_vector(elements);
  std::vector<float> values(static_cast<size_t>(elements));
  for (size_t i = 0; i < values.size(); ++i) values[i] = element(*tensor, i);
  return values;
}

Status GgufCheckpoint::check_all_taken() const {
  for (const GgufTensor& tensor : file_.tensors()) {
    if (!taken_.contains(tensor.name)) {
      return fail(ErrorCode::kUnsupported,
                  "{}: the tensor {} has no place in this architecture, so the model cannot be computed as it was made",
                  path(), tensor.name);
    }
  }
  return {};
}

std::vector<TensorSummary> GgufCheckpoint::tensors() const {
  std::vector<TensorSummary> summaries;
  for (const GgufTensor& tensor : file_.tensors()) {
    summaries.push_back({.name = tensor.name,
                         .type = type_label(tensor.type),
                         .elements = tensor.columns() * tensor.rows(),
                         .file_bytes = static_cast<int64_t>(tensor.data.size()),
                         .memory_bytes = static_cast<int64_t>(tensor.data.size())});
  }
  return summaries;
}

}  // namespace

Result<std::unique_ptr<Checkpoint>> open_gguf_checkpoint(const std::filesystem::path& path) {
  CRIBLE_TRY(GgufFile file, GgufFile::open(path));
  CRIBLE_TRY(ConfigKeys config, ConfigKeys::from_gguf(file));
  return std::make_unique<GgufCheckpoint>(std::move(file), std::move(config));
}

}  // namespace crible
