// A model's chat template: messages to prompt text, as transformers' apply_chat_template does it.
// Immutable after parse(); any number of threads may render at once. It does not tokenize.
#pragma once

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "text/jinja/template.h"

namespace crible {

struct ChatContext {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  nlohmann::ordered_json tools;  // null: none offered
  bool add_generation_prompt = true;
  std::string bos_token;
  std::string eos_token;
  // More variables by name, such as {"enable_thinking": false}. They win over the ones above.
  nlohmann::ordered_json extra = nlohmann::ordered_json::object();
  // What strftime_now reads, as local time; without, the clock.
  std::optional<std::chrono::system_clock::time_point> time;
};

class ChatTemplate {
 public:
  // tool_source: the template for conversations that offer tools, where a model has one of its own.
  // kInvalidArgument or kUnsupported, with the line of the template, when it cannot be used.
  static Result<ChatTemplate> parse(std::string source,
                                    std::optional<std::string> tool_source = std::nullopt);

  // kInvalidArgument when the template refuses the messages or fails on them (the template's own
  // raise_exception text is in the message); kResourceExhausted when it runs or grows too long.
  Result<std::string> render(const ChatContext& context) const;

  // Whether the template looks at a variable: "tools", "enable_thinking", ...
  bool mentions(std::string_view variable) const {
    return template_.mentions(variable) || (tool_template_ && tool_template_->mentions(variable));
  }
  const std::string& source() const { return source_; }

 private:
  ChatTemplate(std::string source, jinja::Template parsed, std::optional<jinja::Template> tool_template)
      : source_(std::move(source)), template_(std::move(parsed)), tool_template_(std::move(tool_template)) {}

  std::string source_;
  jinja::Template template_;
  std::optional<jinja::Template> tool_template_;
};

}  // namespace crible
