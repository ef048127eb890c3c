#include "text/jinja/value_text.h"

#include <charconv>
#include <cmath>

#include "text/jinja/code_points.h"

namespace crible::jinja {
namespace {

void append_string_repr(std::string& out, std::string_view text) {
  const bool double_quoted =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = double_quoted ? '"' : '\'';
  out.push_back(quote);
  for (size_t at = 0; at < text.size(); at += code_point_bytes(text, at)) {
    const char32_t c = code_point_at(text, at);
    const auto number = static_cast<uint32_t>(c);
    if (c == '\\' || c == static_cast<char32_t>(quote)) {
      out.push_back('\\');
      out.push_back(static_cast<char>(c));
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_printable(c)) {
      out += text.substr(at, code_point_bytes(text, at));
    } else if (c < 0x100) {
      out += fmt::format("\\x{:02x}", number);
    } else if (c < 0x10000) {
      out += fmt::format("\\u{:04x}", number);
    } else {
      out += fmt::format("\\U{:08x}", number);
    }
  }
  out.push_back(quote);
}

// Writes a value inside another one, or repr() of it. Depth is bounded by kMaxValueDepth, except
// through namespaces, which it counts.
class ReprWriter {
 public:
  ReprWriter(Runtime& runtime, std::string& out) : runtime_(runtime), out_(out) {}

  void write(const Value& value) {
    const Budget::DepthGuard guard(runtime_.budget);
    if (const std::string* text = value.as_text()) {
      append_string_repr(out_, *text);
    } else if (const SequencePtr* sequence = value.get<SequencePtr>()) {
      write_sequence(**sequence);
    } else if (const DictPtr* dict = value.get<DictPtr>()) {
      write_entries((*dict)->entries, [this](const Value& key) { write(key); });
    } else if (const NamespacePtr* space = value.get<NamespacePtr>()) {
      out_ += "<Namespace ";
      runtime_.budget.charge(static_cast<int64_t>((*space)->attributes.size()));
      write_entries((*space)->attributes, [this](const std::string& key) { append_string_repr(out_, key); });
      out_ += ">";
    } else {
      write_scalar(value);
    }
  }

 private:
  void write_scalar(const Value& value) {
    if (value.is_none()) {
      out_ += "None";
    } else if (const bool* boolean = value.get<bool>()) {
      out_ += *boolean ? "True" : "False";
    } else if (const int64_t* integer = value.get<int64_t>()) {
      out_ += fmt::format("{}", *integer);
    } else if (const double* real = value.get<double>()) {
      out_ += float_text(*real);
    } else if (value.is_undefined()) {
      out_ += "Undefined";
    } else if (const LoopPtr* loop = value.get<LoopPtr>()) {
      out_ += fmt::format("<LoopContext {}/{}>", (*loop)->index0 + 1, (*loop)->length());
    } else if (const CallablePtr* callable = value.get<CallablePtr>()) {
      out_ += fmt::format("<function {}>", (*callable)->name());
    } else {
      out_ += "<generator>";
    }
  }

  void write_items(const std::vector<Value>& items) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) out_ += ", ";
      write(items[i]);
    }
  }

  void write_sequence(const Sequence& sequence) {
    const auto wrap = [&](const char* before, const char* after) {
      out_ += before;
      write_items(sequence.items);
      out_ += after;
    };
    switch (sequence.kind) {
      case SequenceKind::kList: return wrap("[", "]");
      case SequenceKind::kTuple: return wrap("(", sequence.items.size() == 1 ? ",)" : ")");
      case SequenceKind::kDictKeys: return wrap("dict_keys([", "])");
      case SequenceKind::kDictValues: return wrap("dict_values([", "])");
      case SequenceKind::kDictItems: return wrap("dict_items([", "])");
      case SequenceKind::kRange: {
        const auto& [start, stop, step] = sequence.range;
        out_ += step == 1 ? fmt::format("range({}, {})", start, stop)
                          : fmt::format("range({}, {}, {})", start, stop, step);
      }
    }
  }

  template <typename Entries, typename WriteKey>
  void write_entries(const Entries& entries, WriteKey write_key) {
    out_ += "{";
    bool first = true;
    for (const auto& [key, value] : entries) {
      if (!first) out_ += ", ";
      first = false;
      write_key(key);
      out_ += ": ";
      write(value);
    }
    out_ += "}";
  }

  Runtime& runtime_;
  std::string& out_;
};

}  // namespace

void append_text(Runtime& runtime, std::string& out, const Value& value) {
  if (const std::string* text = value.as_text()) {
    runtime.budget.charge_text(static_cast<int64_t>(text->size()));
    out += *text;
    return;
  }
  if (value.is_undefined()) return;
  runtime.budget.charge(value.weight());
  ReprWriter(runtime, out).write(value);
}

std::string to_text(Runtime& runtime, const Value& value) {
  std::string out;
  append_text(runtime, out, value);
  return out;
}

std::string to_repr(Runtime& runtime, const Value& value) {
  std::string out;
  runtime.budget.charge(value.weight());
  ReprWriter(runtime, out).write(value);
  return out;
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[40];
  const auto scientific =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific);
  const std::string_view shortest(buffer, scientific.ptr - buffer);
  const size_t e = shortest.find('e');
  int exponent = 0;
  const char* digits = shortest.data() + e + 1;
  std::from_chars(*digits == '+' ? digits + 1 : digits, shortest.data() + shortest.size(), exponent);
  if (exponent < -4 || exponent >= 16) return std::string(shortest);
  const auto fixed = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed);
  std::string out(buffer, fixed.ptr - buffer);
  if (out.find('.') == std::string::npos) out += ".0";
  return out;
}

}  // namespace crible::jinja
