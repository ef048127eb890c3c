#include "text/jinja/arguments.h"

#include <algorithm>

#include "text/jinja/number.h"

namespace crible::jinja {

BoundArguments::BoundArguments(std::string_view function, const Arguments& arguments,
                               std::initializer_list<std::string_view> parameters)
    : function_(function), parameters_(parameters), values_(parameters.size()) {
  if (arguments.positional.size() > parameters_.size()) {
    raise("{} takes at most {} arguments, {} were given", function, parameters_.size(),
          arguments.positional.size());
  }
  for (size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found = std::find(parameters_.begin(), parameters_.end(), name);
    if (found == parameters_.end()) raise("{} has no argument named '{}'", function, name);
    auto& place = values_[found - parameters_.begin()];
    if (place) raise("{} was given its argument '{}' twice", function, name);
    place = value;
  }
}

const Value& BoundArguments::required(size_t index) const {
  if (!has(index)) raise("{} needs its argument '{}'", function_, parameters_[index]);
  return *values_[index];
}

Value BoundArguments::value_or(size_t index, Value fallback) const {
  return has(index) ? *values_[index] : std::move(fallback);
}

bool BoundArguments::boolean_or(size_t index, bool fallback) const {
  return has(index) ? values_[index]->truthy() : fallback;
}

int64_t BoundArguments::integer(size_t index) const {
  const Value& value = required(index);
  const auto number = as_number(value);
  if (!number || number->is_float) {
    raise("argument '{}' of {} must be an integer, not {}", parameters_[index], function_, value.type_name());
  }
  return number->integer;
}

int64_t BoundArguments::integer_or(size_t index, int64_t fallback) const {
  return has(index) ? integer(index) : fallback;
}

const std::string& BoundArguments::text(size_t index) const {
  const Value& value = required(index);
  if (!value.is_text()) {
    raise("argument '{}' of {} must be a string, not {}", parameters_[index], function_, value.type_name());
  }
  return *value.as_text();
}

std::string BoundArguments::text_or(size_t index, std::string fallback) const {
  return has(index) ? text(index) : std::move(fallback);
}

}  // namespace crible::jinja
