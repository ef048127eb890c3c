#include "text/chat_template.h"

#include "text/jinja/json_text.h"
#include "text/jinja/template_error.h"

namespace crible {
namespace {

// Steps for every 64 bytes or element of the input: real templates pass over a message a few times.
constexpr int64_t kStepsPerInputWeight = 16;

// Variables that transformers always passes, tools and documents as none when there are none.
jinja::Template::Variables variables_of(const ChatContext& context) {
  jinja::Template::Variables variables;
  if (context.extra.is_object()) {
    for (const auto& [name, value] : context.extra.items()) {
      variables.emplace_back(name, jinja::from_json(value));
    }
  }
  variables.emplace_back("messages", jinja::from_json(context.messages));
  variables.emplace_back("tools", jinja::from_json(context.tools));
  variables.emplace_back("documents", jinja::Value::none());
  variables.emplace_back("add_generation_prompt", jinja::Value::boolean(context.add_generation_prompt));
  variables.emplace_back("bos_token", jinja::Value::text(context.bos_token));
  variables.emplace_back("eos_token", jinja::Value::text(context.eos_token));
  return variables;
}

}  // namespace

Result<ChatTemplate> ChatTemplate::parse(std::string source, std::optional<std::string> tool_source) {
  auto parsed = jinja::Template::parse(source);
  if (!parsed) return tl::unexpected<Error>(with_context(std::move(parsed.error()), "chat template"));
  std::optional<jinja::Template> tool_template;
  if (tool_source) {
    auto parsed_tool = jinja::Template::parse(*tool_source);
    if (!parsed_tool) {
      return tl::unexpected<Error>(with_context(std::move(parsed_tool.error()), "chat template for tools"));
    }
    tool_template = std::move(*parsed_tool);
  }
  return ChatTemplate(std::move(source), std::move(*parsed), std::move(tool_template));
}

Result<std::string> ChatTemplate::render(const ChatContext& context) const {
  jinja::Template::Variables variables;
  try {
    variables = variables_of(context);
  } catch (jinja::TemplateError& error) {
    return tl::unexpected<Error>(with_context(std::move(error.error), "chat template: messages or tools"));
  }
  const auto now = context.time.value_or(std::chrono::system_clock::now());
  jinja::Limits limits;
  for (const auto& [name, value] : variables) limits.max_steps += kStepsPerInputWeight * value.weight();
  const bool offers_tools = context.tools.is_array() && !context.tools.empty();
  const jinja::Template& chosen = tool_template_ && offers_tools ? *tool_template_ : template_;
  auto rendered = chosen.render(variables, limits, now);
  if (!rendered) return tl::unexpected<Error>(with_context(std::move(rendered.error()), "chat template"));
  return rendered;
}

}  // namespace crible
