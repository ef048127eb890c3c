#include "wire/tokenize_request.h"

namespace crible {

ApiResult<TokenizeRequest> read_tokenize_request(const Json& body) {
  FieldReader fields(body);
  TokenizeRequest request;
  request.model = fields.text("model");
  request.return_token_strings = fields.flag("return_token_strs", false);
  const bool has_messages = body.is_object() && body.contains("messages");
  if (has_messages) {
    request.conversation = read_conversation(fields);
  } else {
    if (const Json* prompt = fields.take("prompt"); prompt != nullptr && prompt->is_string()) {
      request.prompt = prompt->get<std::string>();
    } else {
      fields.fail("prompt", "must be a string; or send messages");
    }
    request.add_special_tokens = fields.flag("add_special_tokens", true);
  }
  if (auto read = fields.finish(); !read) return tl::unexpected<ApiError>(read.error());
  return request;
}

ApiResult<DetokenizeRequest> read_detokenize_request(const Json& body) {
  FieldReader fields(body);
  DetokenizeRequest request;
  request.model = fields.text("model");
  if (const Json* tokens = fields.take("tokens")) {
    request.tokens = read_token_ids(fields, "tokens", *tokens);
  } else {
    fields.fail("tokens", "is missing; send an array of token ids");
  }
  if (auto read = fields.finish(); !read) return tl::unexpected<ApiError>(read.error());
  return request;
}

}  // namespace crible
