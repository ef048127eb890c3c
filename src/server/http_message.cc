#include "server/http_message.h"

#include <fmt/format.h>

#include <ctime>
#include <iterator>

namespace crible {
namespace {

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Response";
  }
}

// RFC 9110, section 5.6.7; names of days and months must not depend on the locale.
std::string http_date() {
  constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t seconds = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  return fmt::format("{}, {:02} {} {} {:02}:{:02}:{:02} GMT", kDays[utc.tm_wday], utc.tm_mday, kMonths[utc.tm_mon],
                     utc.tm_year + 1900, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

}  // namespace

HttpReply error_reply(const ApiError& error) {
  HttpReply reply{.status = error.status, .body = error_body(error)};
  if (error.status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.status == 503) reply.headers.emplace_back("Retry-After", "5");
  return reply;
}

std::string response_head(const HttpReply& reply, int64_t length, bool keep_alive, bool chunks_understood) {
  std::string head = fmt::format("HTTP/1.1 {} {}\r\nServer: crible\r\nDate: {}\r\n", reply.status,
                                 reason_phrase(reply.status), http_date());
  auto out = std::back_inserter(head);
  if (length >= 0) {
    if (reply.status != 204) fmt::format_to(out, "Content-Length: {}\r\n", length);
  } else if (chunks_understood) {
    head += "Transfer-Encoding: chunked\r\n";
  }
  if (!reply.content_type.empty() && reply.status != 204) {
    fmt::format_to(out, "Content-Type: {}\r\n", reply.content_type);
  }
  for (const auto& [name, value] : reply.headers) fmt::format_to(out, "{}: {}\r\n", name, value);
  fmt::format_to(out, "Connection: {}\r\n\r\n", keep_alive ? "keep-alive" : "close");
  return head;
}

}  // namespace crible
