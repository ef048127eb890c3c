#include "wire/api_error.h"

#include "wire/json_text.h"
#include "wire/sse.h"

namespace crible {
namespace {

void append_string_or_null(std::string& out, std::string_view text) {
  if (text.empty()) {
    out += "null";
  } else {
    append_json_string(out, text);
  }
}

}  // namespace

tl::unexpected<ApiError> bad_field(std::string_view param, std::string message) {
  return tl::unexpected<ApiError>(ApiError{.message = std::move(message), .param = std::string(param)});
}

ApiError to_api_error(const Error& error) {
  ApiError api{.message = error.message};
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kUnsupported: return api;
    case ErrorCode::kNotFound:
      api.status = 404;
      api.type = "not_found_error";
      return api;
    case ErrorCode::kUnauthorized:
      api.status = 401;
      api.type = "authentication_error";
      return api;
    case ErrorCode::kResourceExhausted:
    case ErrorCode::kUnavailable:
    case ErrorCode::kCancelled:
      api.status = 503;
      api.type = "service_unavailable_error";
      break;
    default:
      api.status = 500;
      api.type = "server_error";
  }
  api.code = error_code_name(error.code);
  return api;
}

std::string error_body(const ApiError& error) {
  std::string out = R"({"error":{"message":)";
  append_json_string(out, error.message);
  out += R"(,"type":)";
  append_json_string(out, error.type);
  out += R"(,"param":)";
  append_string_or_null(out, error.param);
  out += R"(,"code":)";
  append_string_or_null(out, error.code);
  out += "}}";
  return out;
}

void append_error_event(std::string& out, const ApiError& error) { append_sse_event(out, error_body(error)); }

}  // namespace crible
