// Errors as the OpenAI protocol shows them to a client: an HTTP status and
// {"error":{"message","type","param","code"}}. A message says what is wrong, where, and what to do.
#pragma once

#include <string>
#include <string_view>
#include <tl/expected.hpp>

#include "base/result.h"

namespace crible {

struct ApiError {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string message;
  std::string param;  // the request's field at fault; empty: null
  std::string code;   // empty: null
};

template <typename T>
using ApiResult = tl::expected<T, ApiError>;

// A field of the request is wrong: 400.
tl::unexpected<ApiError> bad_field(std::string_view param, std::string message);

// What the status of an Error is over HTTP: the caller's value 400, no such thing 404, not now 503,
// everything else 500.
ApiError to_api_error(const Error& error);

std::string error_body(const ApiError& error);
// The same as the data of one event: how an error reaches a client whose stream has begun.
void append_error_event(std::string& out, const ApiError& error);

}  // namespace crible
