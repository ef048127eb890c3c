#include "text/jinja/methods.h"

#include <memory>

namespace crible::jinja {
namespace {

class BoundMethod final : public Callable {
 public:
  BoundMethod(Value self, const Method* method) : self_(std::move(self)), method_(method) {}

  Value call(Runtime& runtime, const Arguments& arguments) const override {
    return method_->function(runtime, self_, arguments);
  }
  std::string name() const override { return fmt::format("{}.{}", self_.type_name(), method_->name); }
  uint32_t depth() const override { return self_.depth() + 1; }

 private:
  const Value self_;
  const Method* const method_;  // in a static table
};

}  // namespace

Value find_method(const Value& self, std::string_view name) {
  const Method* method = self.is_text() ? find_text_method(name) : find_container_method(self, name);
  if (method == nullptr) return Value();
  return Value(Value::Variant(CallablePtr(std::make_shared<BoundMethod>(self, method))));
}

}  // namespace crible::jinja
