#include "format/gguf.h"

#include <cstring>
#include <limits>

#include "base/units.h"

namespace crible {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kMaxEntries = 1 << 20;
constexpr uint64_t kMaxNameBytes = 65535;
constexpr int kMaxDimensions = 4;

enum class ValueType : uint32_t {
  kUint8 = 0, kInt8, kUint16, kInt16, kUint32, kInt32, kFloat32, kBool, kString, kArray,
  kUint64, kInt64, kFloat64,
};

// Reads little-endian values from the front of a span; every read is checked against its end.
class Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  template <typename T>
  Result<T> read() {
    if (remaining() < sizeof(T)) return truncated(sizeof(T));
    T value;
    std::memcpy(&value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return value;
  }

  Result<std::string_view> read_string() {
    CRIBLE_TRY(const uint64_t length, read<uint64_t>());
    if (remaining() < length) return truncated(length);
    std::string_view text(reinterpret_cast<const char*>(bytes_.data() + position_), length);
    position_ += length;
    return text;
  }

  template <typename... Args>
  tl::unexpected<Error> corrupt(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kCorrupt, "{}: {} (at byte {}); the file is damaged or not a GGUF, fetch it again",
                path_, fmt::format(format, std::forward<Args>(args)...), position_);
  }

 private:
  tl::unexpected<Error> truncated(uint64_t wanted) const {
    return corrupt("the file ends where {} more bytes are announced", wanted);
  }

  std::span<const std::byte> bytes_;
  const std::string& path_;
  size_t position_ = 0;
};

template <typename T>
Result<GgufValue> read_number(Reader& reader) {
  CRIBLE_TRY(const T value, reader.read<T>());
  if constexpr (std::is_floating_point_v<T>) {
    return GgufValue(static_cast<double>(value));
  } else if constexpr (std::is_same_v<T, uint64_t>) {
    return GgufValue(value);
  } else {
    return GgufValue(static_cast<int64_t>(value));
  }
}

Result<GgufValue> read_value(Reader& reader, ValueType type);

Result<GgufValue> read_array(Reader& reader) {
  CRIBLE_TRY(const uint32_t raw_type, reader.read<uint32_t>());
  CRIBLE_TRY(const uint64_t count, reader.read<uint64_t>());
  const auto type = static_cast<ValueType>(raw_type);
  if (type == ValueType::kArray) return reader.corrupt("an array of arrays, which no model uses");
  // Each element takes at least one byte: a larger count cannot be honest, whatever it would allocate.
  if (count > reader.remaining()) return reader.corrupt("an array of {} elements does not fit", count);

  GgufArray array;
  if (type == ValueType::kString) {
    array = std::vector<std::string_view>();
  } else if (type == ValueType::kBool) {
    array = std::vector<bool>();
  } else if (type == ValueType::kFloat32 || type == ValueType::kFloat64) {
    array = std::vector<double>();
  } else {
    array = std::vector<int64_t>();
  }
  for (uint64_t i = 0; i < count; ++i) {
    CRIBLE_TRY(const GgufValue element, read_value(reader, type));
    if (auto* strings = std::get_if<std::vector<std::string_view>>(&array)) {
      strings->push_back(std::get<std::string_view>(element));
    } else if (auto* bools = std::get_if<std::vector<bool>>(&array)) {
      bools->push_back(std::get<bool>(element));
    } else if (auto* floats = std::get_if<std::vector<double>>(&array)) {
      floats->push_back(std::get<double>(element));
    } else if (const auto* large = std::get_if<uint64_t>(&element)) {
      if (*large > uint64_t(std::numeric_limits<int64_t>::max())) {
        return reader.corrupt("an array element of {} is too large", *large);
      }
      std::get<std::vector<int64_t>>(array).push_back(static_cast<int64_t>(*large));
    } else {
      std::get<std::vector<int64_t>>(array).push_back(std::get<int64_t>(element));
    }
  }
  return GgufValue(std::move(array));
}

Result<GgufValue> read_value(Reader& reader, ValueType type) {
  switch (type) {
    case ValueType::kUint8: return read_number<uint8_t>(reader);
    case ValueType::kInt8: return read_number<int8_t>(reader);
    case ValueType::kUint16: return read_number<uint16_t>(reader);
    case ValueType::kInt16: return read_number<int16_t>(reader);
    case ValueType::kUint32: return read_number<uint32_t>(reader);
    case ValueType::kInt32: return read_number<int32_t>(reader);
    case ValueType::kFloat32: return read_number<float>(reader);
    case ValueType::kUint64: return read_number<uint64_t>(reader);
    case ValueType::kInt64: return read_number<int64_t>(reader);
    case ValueType::kFloat64: return read_number<double>(reader);
    case ValueType::kBool: {
      CRIBLE_TRY(const uint8_t value, reader.read<uint8_t>());
      if (value > 1) return reader.corrupt("a bool of value {}", value);
      return GgufValue(value == 1);
    }
    case ValueType::kString: {
      CRIBLE_TRY(const std::string_view text, reader.read_string());
      return GgufValue(text);
    }
    case ValueType::kArray: return read_array(reader);
  }
  return reader.corrupt("a key of unknown value type {}", static_cast<uint32_t>(type));
}

struct TensorEntry {
  GgufTensor tensor;
  uint64_t offset;
  uint64_t bytes;
};

Result<TensorEntry> read_tensor_entry(Reader& reader) {
  CRIBLE_TRY(const std::string_view name, reader.read_string());
  if (name.empty() || name.size() > kMaxNameBytes) return reader.corrupt("a tensor name of {} bytes", name.size());
  CRIBLE_TRY(const uint32_t dimensions, reader.read<uint32_t>());
  if (dimensions < 1 || dimensions > kMaxDimensions) {
    return reader.corrupt("tensor '{}' has {} dimensions", name, dimensions);
  }
  TensorEntry entry{.tensor = {.name = std::string(name)}};
  uint64_t elements = 1;
  for (uint32_t d = 0; d < dimensions; ++d) {
    CRIBLE_TRY(const uint64_t extent, reader.read<uint64_t>());
    if (extent == 0 || extent > uint64_t(std::numeric_limits<int32_t>::max()) ||
        elements > (uint64_t(1) << 48) / extent) {
      return reader.corrupt("tensor '{}' has an impossible dimension {}", name, extent);
    }
    elements *= extent;
    entry.tensor.shape.push_back(static_cast<int64_t>(extent));
  }
  CRIBLE_TRY(const uint32_t type, reader.read<uint32_t>());
  entry.tensor.type = static_cast<GgmlType>(type);
  const GgmlTypeInfo* info = ggml_type_info(entry.tensor.type);
  if (info == nullptr) {
    return fail(ErrorCode::kUnsupported, "tensor '{}' has ggml type {}, which is not supported; "
                "use a file in F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K", name, type);
  }
  if (entry.tensor.shape[0] % info->block_size != 0) {
    return reader.corrupt("tensor '{}' of type {} has {} columns, not a multiple of {}", name, info->name,
                          entry.tensor.shape[0], info->block_size);
  }
  CRIBLE_TRY(entry.offset, reader.read<uint64_t>());
  entry.bytes = elements / uint64_t(info->block_size) * uint64_t(info->block_bytes);
  return entry;
}

}  // namespace

const GgmlTypeInfo* ggml_type_info(GgmlType type) {
  static const std::map<GgmlType, GgmlTypeInfo> kTypes = {
      {GgmlType::kF32, {"F32", 1, 4}},       {GgmlType::kF16, {"F16", 1, 2}},
      {GgmlType::kBF16, {"BF16", 1, 2}},     {GgmlType::kQ4_0, {"Q4_0", 32, 18}},
      {GgmlType::kQ4_1, {"Q4_1", 32, 20}},   {GgmlType::kQ5_0, {"Q5_0", 32, 22}},
      {GgmlType::kQ5_1, {"Q5_1", 32, 24}},   {GgmlType::kQ8_0, {"Q8_0", 32, 34}},
      {GgmlType::kQ8_1, {"Q8_1", 32, 36}},   {GgmlType::kQ2_K, {"Q2_K", 256, 84}},
      {GgmlType::kQ3_K, {"Q3_K", 256, 110}}, {GgmlType::kQ4_K, {"Q4_K", 256, 144}},
      {GgmlType::kQ5_K, {"Q5_K", 256, 176}}, {GgmlType::kQ6_K, {"Q6_K", 256, 210}},
      {GgmlType::kQ8_K, {"Q8_K", 256, 292}}, {GgmlType::kI8, {"I8", 1, 1}},
      {GgmlType::kI16, {"I16", 1, 2}},       {GgmlType::kI32, {"I32", 1, 4}},
      {GgmlType::kI64, {"I64", 1, 8}},       {GgmlType::kF64, {"F64", 1, 8}},
  };
  const auto found = kTypes.find(type);
  return found == kTypes.end() ? nullptr : &found->second;
}

int64_t GgufTensor::rows() const {
  int64_t rows = 1;
  for (size_t d = 1; d < shape.size(); ++d) rows *= shape[d];
  return rows;
}

Result<GgufFile> GgufFile::open(const std::filesystem::path& path) {
  CRIBLE_TRY(MappedFile mapped, MappedFile::open(path));
  GgufFile file(std::move(mapped));
  const auto bytes = file.file_.bytes();
  Reader reader(bytes, file.path());

  CRIBLE_TRY(const uint32_t magic, reader.read<uint32_t>());
  if (magic != kMagic) return reader.corrupt("it does not start with 'GGUF'");
  CRIBLE_TRY(const uint32_t version, reader.read<uint32_t>());
  if (version != 2 && version != 3) {
    return fail(ErrorCode::kUnsupported, "{}: GGUF version {} is not supported; versions 2 and 3 are",
                file.path(), version);
  }
  CRIBLE_TRY(const uint64_t tensor_count, reader.read<uint64_t>());
  CRIBLE_TRY(const uint64_t key_count, reader.read<uint64_t>());
  if (tensor_count > kMaxEntries || key_count > kMaxEntries) {
    return reader.corrupt("{} tensors and {} keys are announced", tensor_count, key_count);
  }
  for (uint64_t i = 0; i < key_count; ++i) {
    CRIBLE_TRY(const std::string_view key, reader.read_string());
    if (key.empty() || key.size() > kMaxNameBytes) return reader.corrupt("a key of {} bytes", key.size());
    CRIBLE_TRY(const uint32_t type, reader.read<uint32_t>());
    CRIBLE_TRY(GgufValue value, read_value(reader, static_cast<ValueType>(type)));
    if (!file.keys_.emplace(std::string(key), std::move(value)).second) {
      return reader.corrupt("key '{}' stands twice", key);
    }
  }

  uint64_t alignment = 32;
  if (file.has("general.alignment")) {
    CRIBLE_TRY(const int64_t stated, file.get_int("general.alignment"));
    if (stated < 8 || stated > kMiB || (stated & (stated - 1)) != 0) {
      return reader.corrupt("general.alignment is {}, not a power of two from 8 to 1 MiB", stated);
    }
    alignment = static_cast<uint64_t>(stated);
  }

  std::vector<TensorEntry> entries;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    CRIBLE_TRY(TensorEntry entry, read_tensor_entry(reader));
    entries.push_back(std::move(entry));
  }
  const uint64_t data_start = (reader.position() + alignment - 1) / alignment * alignment;
  for (auto& entry : entries) {
    const uint64_t available = data_start <= bytes.size() ? bytes.size() - data_start : 0;
    if (entry.offset % alignment != 0 || entry.offset > available || entry.bytes > available - entry.offset) {
      return reader.corrupt("tensor '{}' ({} bytes at offset {}) lies outside the file of {} bytes",
                            entry.tensor.name, entry.bytes, entry.offset, bytes.size());
    }
    entry.tensor.data = bytes.subspan(data_start + entry.offset, entry.bytes);
    if (!file.tensor_index_.emplace(entry.tensor.name, file.tensors_.size()).second) {
      return reader.corrupt("tensor '{}' stands twice", entry.tensor.name);
    }
    file.tensors_.push_back(std::move(entry.tensor));
  }
  return file;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

Result<const GgufValue*> GgufFile::find(std::string_view key) const {
  const auto found = keys_.find(key);
  if (found == keys_.end()) {
    return fail(ErrorCode::kNotFound, "{} has no key '{}'", path(), key);
  }
  return &found->second;
}

namespace {

tl::unexpected<Error> wrong_type(const std::string& path, std::string_view key, const char* wanted) {
  return fail(ErrorCode::kCorrupt, "{}: key '{}' is not {}", path, key, wanted);
}

template <typename T>
const T* array_of(const GgufValue& value) {
  const auto* array = std::get_if<GgufArray>(&value);
  return array == nullptr ? nullptr : std::get_if<T>(array);
}

}  // namespace

Result<int64_t> GgufFile::get_int(std::string_view key) const {
  CRIBLE_TRY(const GgufValue* value, find(key));
  if (const auto* v = std::get_if<int64_t>(value)) return *v;
  if (const auto* v = std::get_if<uint64_t>(value); v && *v <= uint64_t(std::numeric_limits<int64_t>::max())) {
    return static_cast<int64_t>(*v);
  }
  return wrong_type(path(), key, "an integer of at most 63 bits");
}

Result<double> GgufFile::get_float(std::string_view key) const {
  CRIBLE_TRY(const GgufValue* value, find(key));
  if (const auto* v = std::get_if<double>(value)) return *v;
  if (const auto* v = std::get_if<int64_t>(value)) return static_cast<double>(*v);
  return wrong_type(path(), key, "a number");
}

Result<bool> GgufFile::get_bool(std::string_view key) const {
  CRIBLE_TRY(const GgufValue* value, find(key));
  if (const auto* v = std::get_if<bool>(value)) return *v;
  return wrong_type(path(), key, "a bool");
}

Result<std::string_view> GgufFile::get_string(std::string_view key) const {
  CRIBLE_TRY(const GgufValue* value, find(key));
  if (const auto* v = std::get_if<std::string_view>(value)) return *v;
  return wrong_type(path(), key, "a string");
}

Result<const std::vector<std::string_view>*> GgufFile::get_strings(std::string_view key) const {
  CRIBLE_TRY(const GgufValue* value, find(key));
  if (const auto* v = array_of<std::vector<std::string_view>>(*value)) return v;
  return wrong_type(path(), key, "an array of strings");
}

Result<const std::vector<int64_t>*> GgufFile::get_ints(std::string_view key) const {
  CRIBLE_TRY(const GgufValue* value, find(key));
  if (const auto* v = array_of<std::vector<int64_t>>(*value)) return v;
  return wrong_type(path(), key, "an array of integers");
}

Result<const std::vector<double>*> GgufFile::get_floats(std::string_view key) const {
  CRIBLE_TRY(const GgufValue* value, find(key));
  if (const auto* v = array_of<std::vector<double>>(*value)) return v;
  return wrong_type(path(), key, "an array of numbers");
}

}  // namespace crible
