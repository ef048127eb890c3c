#include "text/jinja/json_text.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "text/jinja/code_points.h"
#include "text/jinja/value_text.h"

namespace crible::jinja {
namespace {

Value convert(const nlohmann::ordered_json& json, uint32_t depth) {
  if (depth > kMaxValueDepth) raise("the JSON nests more than {} levels", kMaxValueDepth);
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean: return Value::boolean(json.get<bool>());
    case nlohmann::ordered_json::value_t::number_integer: return Value::integer(json.get<int64_t>());
    case nlohmann::ordered_json::value_t::number_unsigned: {
      const auto number = json.get<uint64_t>();
      if (number > static_cast<uint64_t>(INT64_MAX)) return Value::floating(static_cast<double>(number));
      return Value::integer(static_cast<int64_t>(number));
    }
    case nlohmann::ordered_json::value_t::number_float: return Value::floating(json.get<double>());
    case nlohmann::ordered_json::value_t::string: return Value::text(json.get_ref<const std::string&>());
    case nlohmann::ordered_json::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(convert(item, depth + 1));
      return Value::list(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict dict;
      dict.entries.reserve(json.size());
      for (const auto& [key, value] : json.items()) dict.set(Value::text(key), convert(value, depth + 1));
      return Value::dict(std::move(dict));
    }
    default: return Value::none();
  }
}

void append_json_string(std::string& out, std::string_view text, bool ensure_ascii) {
  out.push_back('"');
  for (size_t at = 0; at < text.size(); at += code_point_bytes(text, at)) {
    const char32_t c = code_point_at(text, at);
    const auto number = static_cast<uint32_t>(c);
    static constexpr std::string_view kShort = "\"\\\n\r\t\b\f";
    static constexpr std::string_view kLetters = "\"\\nrtbf";
    if (const size_t special = c < 0x80 ? kShort.find(static_cast<char>(c)) : std::string_view::npos;
        special != std::string_view::npos) {
      out.push_back('\\');
      out.push_back(kLetters[special]);
    } else if (c < 0x20 || (ensure_ascii && c >= 0x7F && c < 0x10000)) {
      out += fmt::format("\\u{:04x}", number);
    } else if (ensure_ascii && c >= 0x10000) {
      const uint32_t offset = number - 0x10000;
      out += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + (offset >> 10), 0xDC00 + (offset & 0x3FF));
    } else {
      out += text.substr(at, code_point_bytes(text, at));
    }
  }
  out.push_back('"');
}

class JsonWriter {
 public:
  JsonWriter(const JsonStyle& style, std::string& out, int64_t max_bytes)
      : style_(style), out_(out), max_bytes_(max_bytes) {}

  void write(const Value& value, int level) {
    if (static_cast<int64_t>(out_.size()) > max_bytes_) raise("the JSON text exceeds {} bytes", max_bytes_);
    if (const std::string* text = value.as_text()) {
      append_json_string(out_, *text, style_.ensure_ascii);
    } else if (const DictPtr* dict = value.get<DictPtr>()) {
      write_object(**dict, level);
    } else if (const SequencePtr* sequence = value.get<SequencePtr>();
               sequence != nullptr && (*sequence)->kind <= SequenceKind::kTuple) {
      write_array((*sequence)->items, level);
    } else {
      out_ += scalar(value);
    }
  }

 private:
  static std::string scalar(const Value& value) {
    if (value.is_none()) return "null";
    if (const bool* boolean = value.get<bool>()) return *boolean ? "true" : "false";
    if (const int64_t* integer = value.get<int64_t>()) return fmt::format("{}", *integer);
    if (const double* real = value.get<double>()) {
      if (std::isnan(*real)) return "NaN";
      if (std::isinf(*real)) return *real < 0 ? "-Infinity" : "Infinity";
      return float_text(*real);
    }
    raise("a value of type {} cannot be written as JSON", value.type_name());
  }

  void break_line(int level) {
    if (!style_.indent) return;
    out_.push_back('\n');
    for (int i = 0; i < level; ++i) out_ += *style_.indent;
  }

  void write_array(const std::vector<Value>& items, int level) {
    if (items.empty()) {
      out_ += "[]";
      return;
    }
    out_.push_back('[');
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      break_line(level + 1);
      write(items[i], level + 1);
    }
    break_line(level);
    out_.push_back(']');
  }

  void write_object(const Dict& dict, int level) {
    if (dict.entries.empty()) {
      out_ += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    entries.reserve(dict.entries.size());
    for (const auto& entry : dict.entries) entries.push_back(&entry);
    if (style_.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [](const auto* a, const auto* b) { return less(a->first, b->first); });
    }
    out_.push_back('{');
    for (size_t i = 0; i < entries.size(); ++i) {
      if (i > 0) out_ += style_.item_separator;
      break_line(level + 1);
      const Value& key = entries[i]->first;
      append_json_string(out_, key.is_text() ? *key.as_text() : scalar(key), style_.ensure_ascii);
      out_ += style_.key_separator;
      write(entries[i]->second, level + 1);
    }
    break_line(level);
    out_.push_back('}');
  }

  const JsonStyle& style_;
  std::string& out_;
  const int64_t max_bytes_;
};

}  // namespace

Value from_json(const nlohmann::ordered_json& json) {
  return convert(json, 1);
}

std::string to_json(Runtime& runtime, const Value& value, const JsonStyle& style) {
  runtime.budget.charge(value.weight());
  std::string out;
  JsonWriter(style, out, runtime.budget.limits().max_string_bytes).write(value, 0);
  runtime.budget.charge_text(static_cast<int64_t>(out.size()));
  return out;
}

}  // namespace crible::jinja
