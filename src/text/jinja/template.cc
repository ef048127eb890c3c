#include "text/jinja/template.h"

#include <algorithm>

#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/parser.h"

namespace crible::jinja {
namespace {

constexpr size_t kMaxSourceBytes = 1 << 20;

tl::unexpected<Error> located(TemplateError error, int line) {
  if (error.line != 0) line = error.line;
  return tl::unexpected<Error>(with_context(std::move(error.error), fmt::format("template line {}", line)));
}

}  // namespace

Result<Template> Template::parse(std::string_view source) {
  if (source.size() > kMaxSourceBytes) {
    return fail(ErrorCode::kResourceExhausted, "the template has {} bytes; the limit is {}", source.size(),
                kMaxSourceBytes);
  }
  try {
    return Template(std::make_shared<const Tree>(Parser(tokenize(source)).parse()));
  } catch (TemplateError& error) {
    return located(std::move(error), 1);
  }
}

Result<std::string> Template::render(const Variables& variables, const Limits& limits,
                                     std::chrono::system_clock::time_point now) const {
  Runtime runtime(limits, now);
  Interpreter interpreter(*tree_, runtime);
  // Only names that the template mentions are defined: look-ups stay short.
  for (Symbol symbol = 0; symbol < tree_->symbols.size(); ++symbol) {
    const std::string& name = *tree_->symbols[symbol];
    const auto named = [&name](const auto& entry) { return entry.first == name; };
    const auto& globals = global_functions();
    if (const auto found = std::find_if(globals.begin(), globals.end(), named); found != globals.end()) {
      interpreter.define(symbol, found->second);
    }
    if (const auto found = std::find_if(variables.begin(), variables.end(), named);
        found != variables.end()) {
      interpreter.define(symbol, found->second);
    }
  }
  try {
    return interpreter.render();
  } catch (TemplateError& error) {
    return located(std::move(error), interpreter.line());
  }
}

bool Template::mentions(std::string_view name) const {
  return std::any_of(tree_->symbols.begin(), tree_->symbols.end(),
                     [name](const Text& symbol) { return *symbol == name; });
}

}  // namespace crible::jinja
