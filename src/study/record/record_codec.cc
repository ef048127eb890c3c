#include "study/record/record_codec.h"

#include <cmath>
#include <nlohmann/json.hpp>

namespace crible::study {
namespace {

using nlohmann::json;

// Log lines and error bodies may hold any bytes.
std::string dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

tl::unexpected<Error> corrupt(const char* what) {
  return fail(ErrorCode::kCorrupt, "the store holds a malformed {}", what);
}

template <typename T>
bool read(const json& object, const char* name, T& value) {
  const auto found = object.find(name);
  if (found == object.end()) return false;
  if constexpr (std::is_same_v<T, std::string>) {
    if (!found->is_string()) return false;
  } else {
    if (!found->is_number_integer()) return false;
  }
  value = found->get<T>();
  return true;
}

}  // namespace

std::string encode_machine(const MachineRecord& m) {
  return dump({{"host", m.host},
               {"cpu_model", m.cpu_model},
               {"cpu_cores", m.cpu_cores},
               {"cpu_features", m.cpu_features},
               {"memory_bytes", m.memory_bytes},
               {"device", m.device},
               {"device_memory_bytes", m.device_memory_bytes},
               {"os", m.os},
               {"program_version", m.program_version}});
}

Result<MachineRecord> decode_machine(const std::string& text) {
  const json object = json::parse(text, nullptr, false);
  MachineRecord m;
  const bool complete =
      object.is_object() && read(object, "host", m.host) && read(object, "cpu_model", m.cpu_model) &&
      read(object, "cpu_cores", m.cpu_cores) && read(object, "cpu_features", m.cpu_features) &&
      read(object, "memory_bytes", m.memory_bytes) && read(object, "device", m.device) &&
      read(object, "device_memory_bytes", m.device_memory_bytes) && read(object, "os", m.os) &&
      read(object, "program_version", m.program_version);
  if (!complete) return corrupt("machine record");
  return m;
}

std::string encode_model(const ModelRecord& m) {
  return dump({{"name", m.name},
               {"path", m.path},
               {"architecture", m.architecture},
               {"quantization", m.quantization},
               {"file_bytes", m.file_bytes},
               {"parameters", m.parameters},
               {"context_tokens", m.context_tokens},
               {"sha256", m.sha256}});
}

Result<ModelRecord> decode_model(const std::string& text) {
  const json object = json::parse(text, nullptr, false);
  ModelRecord m;
  const bool complete =
      object.is_object() && read(object, "name", m.name) && read(object, "path", m.path) &&
      read(object, "architecture", m.architecture) && read(object, "quantization", m.quantization) &&
      read(object, "file_bytes", m.file_bytes) && read(object, "parameters", m.parameters) &&
      read(object, "context_tokens", m.context_tokens) && read(object, "sha256", m.sha256);
  if (!complete) return corrupt("model record");
  return m;
}

std::string encode_texts(const std::vector<std::string>& texts) { return dump(json(texts)); }

Result<std::vector<std::string>> decode_texts(const std::string& text) {
  const json array = json::parse(text, nullptr, false);
  if (!array.is_array()) return corrupt("list of texts");
  std::vector<std::string> texts;
  for (const json& element : array) {
    if (!element.is_string()) return corrupt("list of texts");
    texts.push_back(element.get<std::string>());
  }
  return texts;
}

std::string encode_adjustments(const std::vector<AdjustmentRecord>& adjustments) {
  json array = json::array();
  for (const AdjustmentRecord& a : adjustments) {
    array.push_back({{"knob", a.knob},
                     {"requested", a.requested},
                     {"resolved", a.resolved},
                     {"reason", a.reason}});
  }
  return dump(array);
}

Result<std::vector<AdjustmentRecord>> decode_adjustments(const std::string& text) {
  const json array = json::parse(text, nullptr, false);
  if (!array.is_array()) return corrupt("list of adjustments");
  std::vector<AdjustmentRecord> adjustments;
  for (const json& element : array) {
    AdjustmentRecord a;
    const bool complete = element.is_object() && read(element, "knob", a.knob) &&
                          read(element, "requested", a.requested) &&
                          read(element, "resolved", a.resolved) && read(element, "reason", a.reason);
    if (!complete) return corrupt("list of adjustments");
    adjustments.push_back(std::move(a));
  }
  return adjustments;
}

std::string encode_counters(const std::map<std::string, double>& counters) {
  json object = json::object();
  for (const auto& [name, value] : counters) {
    if (std::isfinite(value)) object[name] = value;
  }
  return dump(object);
}

Result<std::map<std::string, double>> decode_counters(const std::string& text) {
  const json object = json::parse(text, nullptr, false);
  if (!object.is_object()) return corrupt("table of counters");
  std::map<std::string, double> counters;
  for (const auto& [name, value] : object.items()) {
    if (!value.is_number()) return corrupt("table of counters");
    counters[name] = value.get<double>();
  }
  return counters;
}

std::string encode_gaps(const std::vector<int64_t>& gaps_ns) {
  std::string bytes;
  for (const int64_t gap : gaps_ns) {
    uint64_t rest = (static_cast<uint64_t>(gap) << 1) ^ static_cast<uint64_t>(gap >> 63);
    while (rest >= 0x80) {
      bytes.push_back(static_cast<char>(rest | 0x80));
      rest >>= 7;
    }
    bytes.push_back(static_cast<char>(rest));
  }
  return bytes;
}

Result<std::vector<int64_t>> decode_gaps(std::string_view bytes) {
  std::vector<int64_t> gaps;
  uint64_t folded = 0;
  int shift = 0;
  for (const char c : bytes) {
    const auto byte = static_cast<uint8_t>(c);
    if (shift > 63) return corrupt("list of token gaps");
    folded |= static_cast<uint64_t>(byte & 0x7f) << shift;
    shift += 7;
    if (byte & 0x80) continue;
    gaps.push_back(static_cast<int64_t>(folded >> 1) ^ -static_cast<int64_t>(folded & 1));
    folded = 0;
    shift = 0;
  }
  if (shift != 0) return corrupt("list of token gaps");
  return gaps;
}

}  // namespace crible::study
