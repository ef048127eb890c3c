// GGUF container, versions 2 and 3, little-endian (specification: ggml/docs/gguf.md in the ggml
// project). Parses and checks the header, the keys and the tensor table against the file's size;
// tensor data stays in the mapping. Knows no architecture and converts no weights.
// Immutable after open, safe to share between threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "format/mapped_file.h"

namespace crible {

// Numbers as they stand in the file's tensor table (ggml_type).
enum class GgmlType : uint32_t {
  kF32 = 0, kF16 = 1, kQ4_0 = 2, kQ4_1 = 3, kQ5_0 = 6, kQ5_1 = 7, kQ8_0 = 8, kQ8_1 = 9,
  kQ2_K = 10, kQ3_K = 11, kQ4_K = 12, kQ5_K = 13, kQ6_K = 14, kQ8_K = 15,
  kI8 = 24, kI16 = 25, kI32 = 26, kI64 = 27, kF64 = 28, kBF16 = 30,
};

struct GgmlTypeInfo {
  const char* name;     // "Q4_1"
  int64_t block_size;   // elements per block along the row
  int64_t block_bytes;
};
// Null for a type whose layout this build does not know.
const GgmlTypeInfo* ggml_type_info(GgmlType type);

struct GgufTensor {
  std::string name;
  GgmlType type;
  std::vector<int64_t> shape;  // fastest dimension first: {columns, rows}
  std::span<const std::byte> data;

  int64_t columns() const { return shape[0]; }
  int64_t rows() const;  // product of the other dimensions
};

using GgufArray = std::variant<std::vector<int64_t>, std::vector<double>, std::vector<std::string_view>,
                               std::vector<bool>>;
using GgufValue = std::variant<int64_t, uint64_t, double, bool, std::string_view, GgufArray>;

class GgufFile {
 public:
  static Result<GgufFile> open(const std::filesystem::path& path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, GgufValue, std::less<>>& keys() const { return keys_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;
  bool has(std::string_view key) const { return keys_.contains(key); }

  // Typed access; the error names the key, the type found and the file. Integers of any width and
  // sign convert when the value fits; get_float also takes integers.
  Result<int64_t> get_int(std::string_view key) const;
  Result<double> get_float(std::string_view key) const;
  Result<bool> get_bool(std::string_view key) const;
  Result<std::string_view> get_string(std::string_view key) const;
  Result<const std::vector<std::string_view>*> get_strings(std::string_view key) const;
  Result<const std::vector<int64_t>*> get_ints(std::string_view key) const;
  Result<const std::vector<double>*> get_floats(std::string_view key) const;

 private:
  explicit GgufFile(MappedFile file) : file_(std::move(file)) {}
  Result<const GgufValue*> find(std::string_view key) const;

  MappedFile file_;
  std::map<std::string, GgufValue, std::less<>> keys_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> tensor_index_;
};

}  // namespace crible
