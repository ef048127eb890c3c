// Result<T>: how everything that comes from the outside world (file, flag, HTTP, allocation too
// large) reports failure. A broken invariant is not an Error: it is a CHECK (check.h).
// A message states what failed, where, and what to do about it.
#pragma once

#include <fmt/format.h>

#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace crible {

enum class ErrorCode {
  kInvalidArgument,    // the caller's value is wrong: HTTP 400, exit 2
  kNotFound,           // named thing does not exist: HTTP 404
  kUnsupported,        // well-formed but not something this build can do
  kCorrupt,            // a file or stream breaks its own format
  kResourceExhausted,  // memory, disk, blocks, queue places: HTTP 429 or 503
  kUnavailable,        // not now: shutting down, port busy, not ready
  kCancelled,
  kDeadlineExceeded,
  kUnauthorized,  // HTTP 401
  kIo,
  kInternal,
};

// Stable lower-case name, as it stands in JSON and in stores ("invalid_argument").
const char* error_code_name(ErrorCode code);

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

template <typename... Args>
tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

// The same error with `context: ` put before its message.
Error with_context(Error error, const std::string& context);

}  // namespace crible

#define CRIBLE_CONCAT_INNER(a, b) a##b
#define CRIBLE_CONCAT(a, b) CRIBLE_CONCAT_INNER(a, b)

// CRIBLE_TRY(auto x, f());  returns the error of f() from this function, or binds its value to x.
#define CRIBLE_TRY(declaration, expression) \
  CRIBLE_TRY_IMPL(CRIBLE_CONCAT(result_, __LINE__), declaration, expression)
#define CRIBLE_TRY_IMPL(name, declaration, expression)             \
  auto name = (expression);                                        \
  if (!name) return tl::unexpected<::crible::Error>(name.error()); \
  declaration = std::move(*name)

// CRIBLE_RETURN_IF_ERROR(f());  for a Status.
#define CRIBLE_RETURN_IF_ERROR(expression)                           \
  do {                                                               \
    if (auto status_ = (expression); !status_)                       \
      return tl::unexpected<::crible::Error>(status_.error());       \
  } while (false)
