// Binding of call arguments to parameter names, with Python's complaints: too many, unknown,
// given twice. Positions in the accessors are those of the parameter list.
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/runtime.h"

namespace crible::jinja {

class BoundArguments {
 public:
  // `function` and the names must outlive this. Fails (TemplateError) when they do not fit.
  BoundArguments(std::string_view function, const Arguments& arguments,
                 std::initializer_list<std::string_view> parameters);

  bool has(size_t index) const { return values_[index].has_value(); }
  const Value& required(size_t index) const;
  Value value_or(size_t index, Value fallback) const;
  bool boolean_or(size_t index, bool fallback) const;
  int64_t integer(size_t index) const;
  int64_t integer_or(size_t index, int64_t fallback) const;
  const std::string& text(size_t index) const;
  std::string text_or(size_t index, std::string fallback) const;
  // Not given, or none.
  bool absent(size_t index) const { return !has(index) || values_[index]->is_none(); }

 private:
  std::string_view function_;
  std::vector<std::string_view> parameters_;
  std::vector<std::optional<Value>> values_;
};

}  // namespace crible::jinja
