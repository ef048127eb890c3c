// One HTTP exchange as the routes see it, free of the library that carries it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "wire/api_error.h"

namespace crible {

struct HttpRequest {
  std::string method;  // "GET"
  std::string path;    // without query or authority
  std::string body;
  bool keep_alive = true;
  bool chunks_understood = true;  // HTTP/1.1
};

struct HttpReply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<std::pair<std::string_view, std::string>> headers;  // beside type, length and connection
};

HttpReply error_reply(const ApiError& error);

// Status line and headers with the blank line. length: of the body; negative: chunked, or, for a
// client that does not understand chunks, until the connection closes.
std::string response_head(const HttpReply& reply, int64_t length, bool keep_alive, bool chunks_understood);

}  // namespace crible
