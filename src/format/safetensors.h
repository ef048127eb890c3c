// Safetensors container (format description of the safetensors project): a length, a JSON table of
// tensors, and their bytes back to back. Checks all of it against the file's size: every tensor's
// bytes are its shape times its type, none overlap, and, as the format demands, none are left over.
// Tensor data stays in the mapping, little-endian, aligned to nothing. Knows no model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "format/mapped_file.h"

namespace crible {

enum class SafetensorsType : uint8_t {
  kBool, kU8, kI8, kF8E4M3, kF8E5M2, kI16, kU16, kF16, kBF16, kI32, kU32, kF32, kI64, kU64, kF64,
};
const char* safetensors_type_name(SafetensorsType type);  // "BF16", as the table spells it
int64_t safetensors_type_bytes(SafetensorsType type);

struct SafetensorsTensor {
  std::string name;
  SafetensorsType type = SafetensorsType::kF32;
  std::vector<int64_t> shape;  // slowest dimension first: {rows, columns}; empty for a single number
  std::span<const std::byte> data;

  int64_t elements() const { return static_cast<int64_t>(data.size()) / safetensors_type_bytes(type); }
};

// The tensors of a whole file's bytes, in the order of their data. path: for messages.
Result<std::vector<SafetensorsTensor>> parse_safetensors(std::span<const std::byte> bytes, const std::string& path);

// The tensors of one file, or of a folder's shards together. Immutable, safe to share between threads.
class Safetensors {
 public:
  static Result<Safetensors> open_file(const std::filesystem::path& path);
  // model.safetensors, or the shards that model.safetensors.index.json names. A shard that is missing,
  // a tensor that the index names and its shard lacks, and one that no index names are errors.
  static Result<Safetensors> open_folder(const std::filesystem::path& folder);
  // Whether open_folder would find either file.
  static bool present_in(const std::filesystem::path& folder);

  const std::map<std::string, SafetensorsTensor, std::less<>>& tensors() const { return tensors_; }
  const SafetensorsTensor* find(std::string_view name) const;

 private:
  Status add_file(const std::filesystem::path& path, std::vector<std::string>* names);
  Status add_shards(const std::filesystem::path& folder, const std::filesystem::path& index);

  std::vector<MappedFile> files_;
  std::map<std::string, SafetensorsTensor, std::less<>> tensors_;
};

}  // namespace crible
