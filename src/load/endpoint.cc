#include "load/endpoint.h"

#include <netdb.h>

#include <charconv>
#include <cstring>

namespace crible::load {

Result<Endpoint> parse_endpoint(std::string_view url) {
  constexpr std::string_view kScheme = "http://";
  if (url.starts_with("https://")) {
    return fail(ErrorCode::kUnsupported, "'{}': https is not supported; give the server's own http address",
                url);
  }
  if (!url.starts_with(kScheme)) {
    return fail(ErrorCode::kInvalidArgument, "'{}' is not a URL of the form http://host:port", url);
  }
  std::string_view rest = url.substr(kScheme.size());
  Endpoint endpoint;
  if (const size_t slash = rest.find('/'); slash != std::string_view::npos) {
    endpoint.base_path = rest.substr(slash);
    rest = rest.substr(0, slash);
    while (endpoint.base_path.ends_with('/')) endpoint.base_path.pop_back();
  }
  std::string_view port;
  if (rest.starts_with('[')) {
    const size_t close = rest.find(']');
    if (close == std::string_view::npos) {
      return fail(ErrorCode::kInvalidArgument, "'{}': the address lacks its closing ']'", url);
    }
    endpoint.host = rest.substr(1, close - 1);
    if (close + 1 < rest.size() && rest[close + 1] == ':') port = rest.substr(close + 2);
  } else {
    const size_t colon = rest.find(':');
    endpoint.host = rest.substr(0, colon);
    if (colon != std::string_view::npos) port = rest.substr(colon + 1);
  }
  if (endpoint.host.empty()) return fail(ErrorCode::kInvalidArgument, "'{}' names no host", url);
  if (!port.empty()) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
    if (error != std::errc() || end != port.data() + port.size() || endpoint.port == 0) {
      return fail(ErrorCode::kInvalidArgument, "'{}': '{}' is not a port (1 to 65535)", url, port);
    }
  }
  return endpoint;
}

std::string to_url(const Endpoint& endpoint) {
  const bool bracketed = endpoint.host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}{}", bracketed ? "[" : "", endpoint.host, bracketed ? "]" : "",
                     endpoint.port, endpoint.base_path);
}

Result<SocketAddress> resolve_address(const Endpoint& endpoint) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(endpoint.port);
  const int code = ::getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &found);
  if (code != 0) {
    return fail(ErrorCode::kNotFound, "cannot resolve the host '{}': {}", endpoint.host,
                ::gai_strerror(code));
  }
  SocketAddress address;
  std::memcpy(&address.storage, found->ai_addr, found->ai_addrlen);
  address.length = found->ai_addrlen;
  ::freeaddrinfo(found);
  return address;
}

std::string serialize_request(const Endpoint& endpoint, std::string_view method, std::string_view path,
                              std::string_view body) {
  std::string request = fmt::format("{} {}{} HTTP/1.1\r\nHost: {}:{}\r\nAccept: */*\r\n", method,
                                    endpoint.base_path, path, endpoint.host, endpoint.port);
  if (!endpoint.api_key.empty()) request += "Authorization: Bearer " + endpoint.api_key + "\r\n";
  if (method != "GET") {
    request += fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
  }
  request += "\r\n";
  request += body;
  return request;
}

}  // namespace crible::load
