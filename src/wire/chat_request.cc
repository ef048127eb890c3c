#include "wire/chat_request.h"

#include <fmt/format.h>

namespace crible {
namespace {

constexpr std::string_view kRoles[] = {"system", "developer", "user", "assistant"};

// A string as it is; text parts joined by newlines, since templates print content as one string.
std::optional<std::string> content_text(FieldReader& fields, const std::string& where, const Json& content) {
  if (content.is_string()) return content.get<std::string>();
  if (!content.is_array()) {
    fields.fail(where, fmt::format("must be a string or an array of text parts, not {}", quoted_json(content)));
    return std::nullopt;
  }
  std::string joined;
  for (size_t i = 0; i < content.size(); ++i) {
    const Json& part = content[i];
    const std::string part_where = fmt::format("{}[{}]", where, i);
    const bool text = part.is_object() && part.contains("type") && part["type"] == "text" && part.contains("text") &&
                      part["text"].is_string();
    if (!text) {
      fields.fail(part_where, fmt::format("must be {{\"type\":\"text\",\"text\":...}}: this server takes text only, not {}",
                                          quoted_json(part)));
      return std::nullopt;
    }
    if (i > 0) joined += '\n';
    joined += part["text"].get_ref<const std::string&>();
  }
  return joined;
}

// The message as a template may rely on it, or nothing after an error.
std::optional<Json> read_message(FieldReader& fields, const Json& message, const std::string& where) {
  FieldReader inner(message, where + ".");
  const std::string role = inner.text("role");
  if (std::find(std::begin(kRoles), std::end(kRoles), role) == std::end(kRoles)) {
    inner.fail("role", role == "tool" || role == "function"
                           ? "is " + role + ", but this server does not support tool calls yet"
                           : fmt::format("must be one of {}", fmt::join(kRoles, ", ")));
  }
  const Json* content = inner.take("content");
  std::optional<std::string> text;
  if (content != nullptr) {
    text = content_text(inner, "content", *content);
  } else {
    inner.fail("content", "is missing; send a string");
  }
  // OpenAI renamed "system"; the templates of open models know the older name only.
  Json read = {{"role", role == "developer" ? "system" : role}, {"content", text.value_or("")}};
  if (const std::string name = inner.text("name"); !name.empty()) read["name"] = name;
  inner.neutral("tool_calls", {Json::array()});
  inner.neutral("function_call", {});
  inner.neutral("tool_call_id", {});
  inner.neutral("audio", {});
  // Clients send an assistant's message back as they got it.
  for (const std::string_view echoed : {"refusal", "annotations", "reasoning", "reasoning_content"}) {
    inner.ignore(echoed);
  }
  if (auto finished = inner.finish(); !finished) {
    fields.fail(finished.error());
    return std::nullopt;
  }
  return read;
}

// Fields of the chat protocol that ask for tools, media or reasoning control.
void read_neutral_chat_fields(FieldReader& fields) {
  fields.neutral("tools", {Json::array()});
  fields.neutral("functions", {Json::array()});
  fields.neutral("tool_choice", {"none", "auto"});
  fields.neutral("function_call", {"none", "auto"});
  fields.ignore("parallel_tool_calls");  // says how calls are made, and there are none
  fields.neutral("echo", {false});
  fields.neutral("best_of", {1});
  fields.neutral("modalities", {Json::array({"text"})});
  fields.neutral("audio", {});
  fields.neutral("prediction", {});
  fields.neutral("reasoning_effort", {});
  fields.neutral("include_reasoning", {true});
  fields.neutral("verbosity", {});
  fields.neutral("web_search_options", {});
  fields.neutral("mm_processor_kwargs", {});
}

// "logprobs" switches them on, "top_logprobs" says how many tokens to list.
void read_chat_logprobs(FieldReader& fields, GenerationOptions& options) {
  const bool wanted = fields.flag("logprobs", false);
  const auto listed = fields.integer("top_logprobs", 0, kMaxListedLogprobs);
  if (wanted) {
    options.logprobs = listed.value_or(0);
  } else if (listed.value_or(0) > 0) {
    fields.fail("top_logprobs", "is only allowed with \"logprobs\": true");
  }
}

}  // namespace

Conversation read_conversation(FieldReader& fields) {
  Conversation conversation{.messages = Json::array(), .template_parameters = Json::object()};
  const Json* messages = fields.take("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    fields.fail("messages", "must be an array with at least one message");
    return conversation;
  }
  for (size_t i = 0; i < messages->size(); ++i) {
    auto message = read_message(fields, (*messages)[i], fmt::format("messages[{}]", i));
    if (!message) return conversation;
    conversation.messages.push_back(std::move(*message));
  }
  if (const Json* parameters = fields.take("chat_template_kwargs")) {
    if (!parameters->is_object()) fields.fail("chat_template_kwargs", "must be an object");
    conversation.template_parameters = *parameters;
  }
  conversation.add_generation_prompt = fields.flag("add_generation_prompt", true);
  conversation.add_special_tokens = fields.flag("add_special_tokens", false);
  fields.neutral("continue_final_message", {false});
  fields.neutral("chat_template", {});
  fields.neutral("documents", {});
  return conversation;
}

ApiResult<ChatRequest> read_chat_request(const Json& body) {
  FieldReader fields(body);
  ChatRequest request;
  request.options = read_generation_options(fields);
  if (const auto limit = fields.integer("max_completion_tokens", 1, INT32_MAX)) request.options.max_tokens = limit;
  request.conversation = read_conversation(fields);
  read_chat_logprobs(fields, request.options);
  check_generation_options(fields, request.options);
  read_neutral_chat_fields(fields);
  if (auto read = fields.finish(); !read) return tl::unexpected<ApiError>(read.error());
  return request;
}

}  // namespace crible
