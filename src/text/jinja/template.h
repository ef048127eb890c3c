// A parsed Jinja template. Immutable after parse(); any number of threads may render it at once.
// Errors say the line: "template line 12: 'name' is undefined".
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/jinja/budget.h"
#include "text/jinja/value.h"

namespace crible::jinja {

struct Tree;

class Template {
 public:
  using Variables = std::vector<std::pair<std::string, Value>>;

  // kInvalidArgument when malformed, kUnsupported for tags outside the interpreter's reach,
  // kResourceExhausted when too large or too deep.
  static Result<Template> parse(std::string_view source);

  // kInvalidArgument when the template fails on these variables (raise_exception included),
  // kResourceExhausted when it exceeds `limits`.
  Result<std::string> render(const Variables& variables, const Limits& limits,
                             std::chrono::system_clock::time_point now) const;

  // Whether the template reads or assigns a variable of this name anywhere.
  bool mentions(std::string_view name) const;

 private:
  explicit Template(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}
  std::shared_ptr<const Tree> tree_;
};

}  // namespace crible::jinja
