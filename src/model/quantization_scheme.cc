#include "model/quantization_scheme.h"

#include <nlohmann/json.hpp>

namespace crible {
namespace {

using nlohmann::json;

constexpr int64_t kMaxGroup = 1 << 20;

// Reads settings of quantization_config; null counts as absent.
class SchemeReader {
 public:
  // The object must outlive the reader.
  SchemeReader(const json& object, std::string path) : object_(object), path_(std::move(path)) {}

  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }

  Result<int64_t> integer(const char* key) const {
    if (!has(key) || !object_[key].is_number_integer()) return refuse("{} must be an integer", key);
    return object_[key].get<int64_t>();
  }
  Result<bool> flag(const char* key, bool absent) const {
    if (!has(key)) return absent;
    if (!object_[key].is_boolean()) return refuse("{} must be true or false", key);
    return object_[key].get<bool>();
  }
  Result<std::string> text(const char* key, const char* absent) const {
    if (!has(key)) return std::string(absent);
    if (!object_[key].is_string()) return refuse("{} must be a string", key);
    return object_[key].get<std::string>();
  }
  const json& at(const char* key) const { return object_[key]; }

  template <typename... Args>
  tl::unexpected<Error> refuse(fmt::format_string<Args...> format, Args&&... args) const {
    return fail(ErrorCode::kUnsupported, "{}: quantization_config: {}", path_,
                fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  const json& object_;
  std::string path_;
};

Result<int64_t> read_group_size(const SchemeReader& reader) {
  CRIBLE_TRY(const int64_t size, reader.integer("group_size"));
  if (size != -1 && (size < 1 || size > kMaxGroup)) return reader.refuse("group_size {} is no number of inputs", size);
  return size;
}

Result<QuantizationScheme> parse_awq(const SchemeReader& reader) {
  QuantizationScheme scheme{.method = QuantizationMethod::kAwq};
  CRIBLE_TRY(scheme.bits, reader.integer("bits"));
  CRIBLE_TRY(scheme.group_size, read_group_size(reader));
  CRIBLE_TRY(const bool zero_point, reader.flag("zero_point", true));
  CRIBLE_TRY(const std::string version, reader.text("version", "gemm"));
  if (scheme.bits != 4) return reader.refuse("AWQ of {} bits is not supported; 4 is", scheme.bits);
  if (!zero_point) return reader.refuse("AWQ without zero points is not supported");
  if (version != "gemm" && version != "GEMM") {
    return reader.refuse("AWQ in the layout '{}' is not supported; gemm is", version);
  }
  scheme.name = "awq 4 bit";
  scheme.memory_type = DType::kQ4_1;
  return scheme;
}

Result<QuantizationScheme> parse_gptq(const SchemeReader& reader) {
  QuantizationScheme scheme{.method = QuantizationMethod::kGptq};
  CRIBLE_TRY(scheme.bits, reader.integer("bits"));
  CRIBLE_TRY(scheme.group_size, read_group_size(reader));
  if (scheme.bits != 4 && scheme.bits != 8) {
    return reader.refuse("GPTQ of {} bits is not supported; 4 and 8 are", scheme.bits);
  }
  CRIBLE_TRY(const std::string format, reader.text("checkpoint_format", "gptq"));
  CRIBLE_TRY(const bool marlin, reader.flag("is_marlin_format", false));
  if ((format != "gptq" && format != "gptq_v2") || marlin) {
    return reader.refuse("GPTQ in the layout '{}' is not supported; gptq and gptq_v2 are", marlin ? "marlin" : format);
  }
  CRIBLE_TRY(const std::string packed_in, reader.text("pack_dtype", "int32"));
  if (packed_in != "int32") return reader.refuse("GPTQ packed in {} is not supported; int32 is", packed_in);
  scheme.zeros_less_one = format == "gptq";
  scheme.name = fmt::format("gptq {} bit", scheme.bits);
  CRIBLE_TRY(const bool act_order, reader.flag("desc_act", false));
  const DType in_order = scheme.bits == 4 ? DType::kQ4_1 : DType::kQ8_0;
  scheme.memory_type = act_order && scheme.group_size != -1 ? DType::kF16 : in_order;
  return scheme;
}

// Two extents under one scale, or none stated.
Status read_block(const SchemeReader& reader, const char* key, QuantizationScheme& scheme) {
  if (!reader.has(key)) return {};
  const json& block = reader.at(key);
  const auto extent = [](const json& value) {
    return value.is_number_integer() && value.get<int64_t>() >= 1 && value.get<int64_t>() <= kMaxGroup;
  };
  if (!block.is_array() || block.size() != 2 || !extent(block[0]) || !extent(block[1])) {
    return reader.refuse("{} must be two numbers, rows and columns", key);
  }
  scheme.block_rows = block[0].get<int64_t>();
  scheme.block_columns = block[1].get<int64_t>();
  return {};
}

Result<QuantizationScheme> parse_fp8(const SchemeReader& reader) {
  QuantizationScheme scheme{.method = QuantizationMethod::kFp8, .name = "fp8", .memory_type = DType::kQ8_0};
  CRIBLE_TRY(const std::string format, reader.text("fmt", "e4m3"));
  if (format != "e4m3" && format != "float8_e4m3fn") {
    return reader.refuse("FP8 of the kind {} is not supported; e4m3 is", format);
  }
  CRIBLE_RETURN_IF_ERROR(read_block(reader, "weight_block_size", scheme));
  return scheme;
}

// compressed-tensors: only weights of eight-bit floats, whose scales say by their shape what they cover.
Result<QuantizationScheme> parse_compressed(const SchemeReader& reader) {
  CRIBLE_TRY(const std::string format, reader.text("format", "not stated"));
  if (format != "float-quantized" && format != "naive-quantized") {
    return reader.refuse("compressed-tensors in the format '{}' is not supported; float-quantized is", format);
  }
  QuantizationScheme scheme{.method = QuantizationMethod::kFp8, .name = "fp8 (compressed-tensors)",
                            .memory_type = DType::kQ8_0};
  if (!reader.has("config_groups") || !reader.at("config_groups").is_object()) {
    return reader.refuse("config_groups is missing");
  }
  for (const auto& [name, group] : reader.at("config_groups").items()) {
    const auto weights = group.is_object() ? group.find("weights") : group.end();
    if (!group.is_object() || weights == group.end() || !weights->is_object()) {
      return reader.refuse("config_groups.{} describes no weights", name);
    }
    const SchemeReader described(*weights, "weights");
    const auto bits = described.integer("num_bits");
    const auto type = described.text("type", "int");
    const auto symmetric = described.flag("symmetric", true);
    if (!bits || !type || !symmetric || *bits != 8 || *type != "float" || !*symmetric) {
      return reader.refuse("config_groups.{}: only symmetric eight-bit float weights are supported", name);
    }
    CRIBLE_RETURN_IF_ERROR(read_block(described, "block_structure", scheme));
  }
  return scheme;
}

}  // namespace

Result<QuantizationScheme> parse_quantization_scheme(const json& config, const std::string& path) {
  if (config.is_null()) return QuantizationScheme{};
  const SchemeReader reader(config, path);
  if (!config.is_object()) return reader.refuse("it must be an object");
  CRIBLE_TRY(const std::string method, reader.text("quant_method", "not stated"));
  if (method == "awq") return parse_awq(reader);
  if (method == "gptq") return parse_gptq(reader);
  if (method == "fp8") return parse_fp8(reader);
  if (method == "compressed-tensors") return parse_compressed(reader);
  return reader.refuse("quant_method '{}' is not supported; awq, gptq, fp8 and compressed-tensors are", method);
}

}  // namespace crible
