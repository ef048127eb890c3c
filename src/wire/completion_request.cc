#include "wire/completion_request.h"

#include <fmt/format.h>

namespace crible {
namespace {

// A string, an array of strings, an array of token ids, or an array of such arrays.
void read_prompts(FieldReader& fields, std::vector<Prompt>& prompts) {
  const Json* value = fields.take("prompt");
  if (value == nullptr) return fields.fail("prompt", "is missing; send a string or an array of token ids");
  if (value->is_string()) {
    prompts.emplace_back(value->get<std::string>());
    return;
  }
  if (!value->is_array() || value->empty()) {
    return fields.fail("prompt", fmt::format("must be a string, an array of strings or an array of token ids, not {}",
                                             quoted_json(*value)));
  }
  if (value->front().is_number()) {
    prompts.emplace_back(read_token_ids(fields, "prompt", *value));
    return;
  }
  if (value->size() > kMaxPrompts) {
    return fields.fail("prompt", fmt::format("holds {} prompts; at most {} are taken in one request", value->size(),
                                             kMaxPrompts));
  }
  for (const Json& item : *value) {
    if (item.is_string()) {
      prompts.emplace_back(item.get<std::string>());
    } else {
      prompts.emplace_back(read_token_ids(fields, "prompt", item));
    }
  }
}

}  // namespace

ApiResult<CompletionRequest> read_completion_request(const Json& body) {
  FieldReader fields(body);
  CompletionRequest request;
  request.options = read_generation_options(fields);
  read_prompts(fields, request.prompts);
  request.add_special_tokens = fields.flag("add_special_tokens", true);
  request.options.logprobs = fields.integer("logprobs", 0, kMaxListedLogprobs);
  request.options.echo = fields.flag("echo", false);
  if (const auto best_of = fields.integer("best_of", 1, kMaxAnswers)) request.options.best_of = *best_of;
  check_generation_options(fields, request.options);
  const size_t answers = request.prompts.size() * static_cast<size_t>(request.options.best_of);
  if (answers > kMaxSequences) {
    fields.fail(request.options.n > 1 ? "n" : "best_of",
                fmt::format("times the number of prompts is {}; at most {} answers are generated for one request",
                            answers, kMaxSequences));
  }
  fields.neutral("suffix", {""});
  fields.neutral("prompt_embeds", {});
  if (auto read = fields.finish(); !read) return tl::unexpected<ApiError>(read.error());
  return request;
}

}  // namespace crible
