// Takes tensors out of a GGUF file by name, each with the shape the architecture wants, and at the end
// names any that nobody took: a tensor that is not used means a model that is not computed as made.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/gguf.h"
#include "ops/matmul/matmul.h"

namespace crible {

class WeightReader {
 public:
  // The file must outlive the reader and every MatrixSource it gave.
  explicit WeightReader(const GgufFile& file) : file_(file) {}

  bool has(std::string_view name) const { return file_.find_tensor(name) != nullptr; }
  // [rows, columns] in one of the types that matmul takes.
  Result<MatrixSource> matrix(const std::string& name, int64_t rows, int64_t columns);
  // [elements] of F32, F16 or BF16, as float32.
  Result<std::vector<float>> vector(const std::string& name, int64_t elements);

  Status check_all_taken() const;
  int64_t parameters() const { return parameters_; }
  // Type of most elements taken as matrices, "Q4_1".
  std::string dominant_type() const;

 private:
  Result<const GgufTensor*> take(const std::string& name, const std::vector<int64_t>& shape);

  const GgufFile& file_;
  std::set<std::string, std::less<>> taken_;
  std::map<GgmlType, int64_t> elements_by_type_;
  int64_t parameters_ = 0;
};

}  // namespace crible
