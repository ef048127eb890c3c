// The table of routes: what answers a method and a path, and on which thread. The two completion
// routes are marked here and answered by the connection, since they stream.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "server/http_message.h"
#include "server/server_context.h"

namespace crible {

enum class RouteKind {
  kImmediate,       // answered on the I/O thread: takes microseconds
  kWorker,          // answered on the worker thread: may tokenise a long text
  kAdmin,           // answered on the admin thread: may wait for the engine
  kCompletion,      // /v1/completions
  kChatCompletion,  // /v1/chat/completions
};

struct Route {
  std::string_view method;
  std::string_view path;
  RouteKind kind;
  bool open = false;  // needs no API key
  HttpReply (*answer)(ServerContext&, const HttpRequest&) = nullptr;
};

// The route, or the reply that says why there is none: 404, 405, and what OPTIONS asks for. HEAD
// finds the route of GET.
tl::expected<const Route*, HttpReply> find_route(std::string_view method, std::string_view path);

// Whether the Authorization header carries the key; takes the same time wherever they differ.
bool authorized(std::string_view authorization, std::string_view api_key);

}  // namespace crible
