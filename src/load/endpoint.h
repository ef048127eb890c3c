// Where a server listens, and how a request to it is spelled. Plain HTTP only: an encrypted URL is
// kUnsupported, because the stamps of the study belong to the server and not to a TLS library.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crible::load {

struct Endpoint {
  std::string host;  // name or address, without brackets
  uint16_t port = 80;
  std::string base_path;  // "" or "/prefix", put before every path
  std::string api_key;    // sent as a bearer token; empty = none
};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

// "http://host[:port][/prefix]".
Result<Endpoint> parse_endpoint(std::string_view url);
std::string to_url(const Endpoint& endpoint);
// Blocks in the resolver; done once per client, never while measuring.
Result<SocketAddress> resolve_address(const Endpoint& endpoint);

// A whole HTTP/1.1 request, keep-alive. A body is JSON.
std::string serialize_request(const Endpoint& endpoint, std::string_view method, std::string_view path,
                              std::string_view body);

}  // namespace crible::load
