#include "format/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/atomic_file.h"

namespace crible {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's own limit
constexpr size_t kMaxIndexBytes = 64 << 20;
constexpr int kMaxDepth = 4;          // {name: {"shape": [..]}} needs 3
constexpr size_t kMaxDimensions = 8;
constexpr int64_t kMaxElements = int64_t{1} << 48;
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

struct TypeRow {
  const char* name;
  int64_t bytes;
};
constexpr auto kTypes = std::to_array<TypeRow>({
    {"BOOL", 1}, {"U8", 1}, {"I8", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"I16", 2}, {"U16", 2}, {"F16", 2},
    {"BF16", 2}, {"I32", 4}, {"U32", 4}, {"F32", 4}, {"I64", 8}, {"U64", 8}, {"F64", 8},
});

std::optional<SafetensorsType> type_named(std::string_view name) {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (name == kTypes[i].name) return static_cast<SafetensorsType>(i);
  }
  return std::nullopt;
}

template <typename... Args>
tl::unexpected<Error> corrupt(const std::string& path, fmt::format_string<Args...> format, Args&&... args) {
  return fail(ErrorCode::kCorrupt, "{}: {}; the file is damaged or not safetensors, fetch it again", path,
              fmt::format(format, std::forward<Args>(args)...));
}

// JSON whose objects hold no key twice and nest no deeper than kMaxDepth: with either, two readers
// could see different tables.
Result<json> parse_strict(std::string_view text, const std::string& path) {
  std::vector<std::set<std::string>> open;
  std::string twice;
  bool too_deep = false;
  const json::parser_callback_t watch = [&](int depth, json::parse_event_t event, json& parsed) {
    too_deep = too_deep || depth > kMaxDepth;
    if (event == json::parse_event_t::object_start) open.emplace_back();
    if (event == json::parse_event_t::object_end && !open.empty()) open.pop_back();
    if (event == json::parse_event_t::key && !open.empty()) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open.back().insert(key).second && twice.empty()) twice = key;
    }
    return !too_deep;
  };
  json table = json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (too_deep) return corrupt(path, "its table nests deeper than {} levels", kMaxDepth);
  if (!twice.empty()) return corrupt(path, "'{}' stands twice in its table", twice);
  if (!table.is_object()) return corrupt(path, "its table is not a JSON object");
  return table;
}

Result<std::vector<int64_t>> read_naturals(const json& entry, const char* key, size_t at_most,
                                           const std::string& tensor, const std::string& path) {
  const auto list = entry.find(key);
  if (list == entry.end() || !list->is_array() || list->size() > at_most) {
    return corrupt(path, "the tensor '{}' has no usable {}", tensor, key);
  }
  std::vector<int64_t> values;
  for (const json& value : *list) {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(kMaxElements)) {
      return corrupt(path, "the tensor '{}' has the impossible {} {}", tensor, key, list->dump());
    }
    values.push_back(value.get<int64_t>());
  }
  return values;
}

Result<SafetensorsTensor> read_entry(const std::string& name, const json& entry, std::span<const std::byte> data,
                                     const std::string& path) {
  if (!entry.is_object()) return corrupt(path, "the tensor '{}' is not described by an object", name);
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) return corrupt(path, "the tensor '{}' has no dtype", name);
  const auto type = type_named(dtype->get_ref<const std::string&>());
  if (!type) {
    return fail(ErrorCode::kUnsupported, "{}: the tensor '{}' has the type {}, which this build does not read", path,
                name, dtype->get_ref<const std::string&>());
  }
  SafetensorsTensor tensor{.name = name, .type = *type};
  CRIBLE_TRY(tensor.shape, read_naturals(entry, "shape", kMaxDimensions, name, path));
  CRIBLE_TRY(const std::vector<int64_t> offsets, read_naturals(entry, "data_offsets", 2, name, path));
  int64_t elements = 1;
  for (const int64_t extent : tensor.shape) {
    if (extent != 0 && elements > kMaxElements / extent) {
      return corrupt(path, "the tensor '{}' has more elements than can be", name);
    }
    elements *= extent;
  }
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > static_cast<int64_t>(data.size())) {
    return corrupt(path, "the tensor '{}' lies outside the {} bytes of data", name, data.size());
  }
  const int64_t bytes = offsets[1] - offsets[0];
  if (bytes != elements * safetensors_type_bytes(*type)) {
    return corrupt(path, "the tensor '{}' has {} bytes but its shape of {} {} needs {}", name, bytes, elements,
                   safetensors_type_name(*type), elements * safetensors_type_bytes(*type));
  }
  tensor.data = data.subspan(static_cast<size_t>(offsets[0]), static_cast<size_t>(bytes));
  return tensor;
}

// The format leaves no byte to two tensors and none to nobody.
Status check_contiguous(const std::vector<SafetensorsTensor>& tensors, std::span<const std::byte> data,
                        const std::string& path) {
  const std::byte* expected = data.data();
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.data.data() != expected) {
      return corrupt(path, "the tensor '{}' {}", tensor.name,
                     tensor.data.data() < expected ? "overlaps another" : "leaves a gap before it");
    }
    expected += tensor.data.size();
  }
  const auto left = static_cast<size_t>(data.data() + data.size() - expected);
  if (left > 0) return corrupt(path, "{} bytes at its end belong to no tensor", left);
  return {};
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos;
}

}  // namespace

const char* safetensors_type_name(SafetensorsType type) { return kTypes[static_cast<size_t>(type)].name; }
int64_t safetensors_type_bytes(SafetensorsType type) { return kTypes[static_cast<size_t>(type)].bytes; }

Result<std::vector<SafetensorsTensor>> parse_safetensors(std::span<const std::byte> bytes, const std::string& path) {
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) return corrupt(path, "it has only {} bytes", bytes.size());
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - sizeof header_bytes) {
    return corrupt(path, "its table of {} bytes does not fit the file of {}", header_bytes, bytes.size());
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data() + sizeof header_bytes);
  CRIBLE_TRY(const json table, parse_strict({text, static_cast<size_t>(header_bytes)}, path));
  const auto data = bytes.subspan(sizeof header_bytes + static_cast<size_t>(header_bytes));
  std::vector<SafetensorsTensor> tensors;
  for (const auto& [name, entry] : table.items()) {
    if (name == "__metadata__") continue;  // free text of the writer
    CRIBLE_TRY(SafetensorsTensor tensor, read_entry(name, entry, data, path));
    tensors.push_back(std::move(tensor));
  }
  // An empty tensor shares its place with the one that starts there: it comes first.
  std::sort(tensors.begin(), tensors.end(), [](const SafetensorsTensor& a, const SafetensorsTensor& b) {
    return std::pair(a.data.data(), a.data.size()) < std::pair(b.data.data(), b.data.size());
  });
  CRIBLE_RETURN_IF_ERROR(check_contiguous(tensors, data, path));
  return tensors;
}

const SafetensorsTensor* Safetensors::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

Status Safetensors::add_file(const std::filesystem::path& path, std::vector<std::string>* names) {
  CRIBLE_TRY(MappedFile file, MappedFile::open(path));
  CRIBLE_TRY(std::vector<SafetensorsTensor> tensors, parse_safetensors(file.bytes(), file.path()));
  files_.push_back(std::move(file));
  for (SafetensorsTensor& tensor : tensors) {
    std::string name = tensor.name;
    if (!tensors_.emplace(name, std::move(tensor)).second) {
      return fail(ErrorCode::kCorrupt, "{}: the tensor '{}' stands in another shard too", path.string(), name);
    }
    if (names != nullptr) names->push_back(std::move(name));
  }
  return {};
}

Result<Safetensors> Safetensors::open_file(const std::filesystem::path& path) {
  Safetensors set;
  CRIBLE_RETURN_IF_ERROR(set.add_file(path, nullptr));
  return set;
}

bool Safetensors::present_in(const std::filesystem::path& folder) {
  std::error_code ignored;
  return std::filesystem::exists(folder / kSingleFile, ignored) ||
         std::filesystem::exists(folder / kIndexFile, ignored);
}

Result<Safetensors> Safetensors::open_folder(const std::filesystem::path& folder) {
  std::error_code ignored;
  if (std::filesystem::exists(folder / kSingleFile, ignored)) return open_file(folder / kSingleFile);
  if (!std::filesystem::exists(folder / kIndexFile, ignored)) {
    return fail(ErrorCode::kNotFound, "{} holds neither {} nor {}", folder.string(), kSingleFile, kIndexFile);
  }
  Safetensors set;
  CRIBLE_RETURN_IF_ERROR(set.add_shards(folder, folder / kIndexFile));
  return set;
}

Status Safetensors::add_shards(const std::filesystem::path& folder, const std::filesystem::path& index) {
  const std::string path = index.string();
  CRIBLE_TRY(const std::string text, read_file(index, kMaxIndexBytes));
  CRIBLE_TRY(const json table, parse_strict(text, path));
  const auto map = table.find("weight_map");
  if (map == table.end() || !map->is_object()) return corrupt(path, "it has no weight_map");
  std::map<std::string, std::set<std::string>> shards;  // file -> the tensors it should hold
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !is_plain_name(file.get_ref<const std::string&>())) {
      return corrupt(path, "the tensor '{}' is said to be in {}, which is no file of this folder", tensor,
                     file.dump());
    }
    shards[file.get_ref<const std::string&>()].insert(tensor);
  }
  for (auto& [file, expected] : shards) {
    std::error_code ignored;
    if (!std::filesystem::exists(folder / file, ignored)) {
      return fail(ErrorCode::kNotFound, "{} names the shard {}, which is missing; fetch it too", path, file);
    }
    std::vector<std::string> names;
    CRIBLE_RETURN_IF_ERROR(add_file(folder / file, &names));
    for (const std::string& name : names) {
      if (expected.erase(name) == 0) {
        return fail(ErrorCode::kCorrupt, "{}: the tensor '{}' is in {} but not in the index", path, name, file);
      }
    }
    if (!expected.empty()) {
      return fail(ErrorCode::kCorrupt, "{}: the index puts the tensor '{}' into {}, which lacks it", path,
                  *expected.begin(), file);
    }
  }
  return {};
}

}  // namespace crible
