#include "server/routes.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "server/admin.h"
#include "wire/json_text.h"
#include "wire/tokenize_request.h"

namespace crible {
namespace {

HttpReply get_health(ServerContext& context, const HttpRequest&) {
  if (context.draining) {
    return error_reply(to_api_error({ErrorCode::kUnavailable, "the server is shutting down"}));
  }
  if (const Status health = context.engine.health(); !health) {
    ApiError error = to_api_error(health.error());
    error.status = 503;
    return error_reply(error);
  }
  return {.body = R"({"status":"ok"})"};
}

nlohmann::json model_entry(const ServerContext& context) {
  const EngineDescription description = context.engine.describe();
  return {{"id", context.model_name},
          {"object", "model"},
          {"created", context.started_unix},
          {"owned_by", "crible"},
          {"root", description.model.path},
          {"parent", nullptr},
          {"max_model_len", description.resolved.config.max_model_len}};
}

std::string text_of(const nlohmann::json& body) {
  return body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

HttpReply get_models(ServerContext& context, const HttpRequest&) {
  return {.body = text_of({{"object", "list"}, {"data", nlohmann::json::array({model_entry(context)})}})};
}

constexpr std::string_view kModelPrefix = "/v1/models/";

HttpReply get_model(ServerContext& context, const HttpRequest& request) {
  const std::string asked = request.path.substr(kModelPrefix.size());
  if (auto named = check_model_name(asked, context.served_model()); !named) return error_reply(named.error());
  return {.body = text_of(model_entry(context))};
}

HttpReply get_metrics(ServerContext& context, const HttpRequest&) {
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8",
          .body = render_metrics(context.metrics, context.engine.stats(), context.engine.describe(),
                                 context.model_name, context.gpus.readings())};
}

HttpReply post_tokenize(ServerContext& context, const HttpRequest& request) {
  const auto document = parse_json(request.body);
  if (!document) return error_reply(document.error());
  const auto asked = read_tokenize_request(*document);
  if (!asked) return error_reply(asked.error());
  const ServedModel model = context.served_model();
  if (auto named = check_model_name(asked->model, model); !named) return error_reply(named.error());
  const Tokenizer& tokenizer = *model.text.tokenizer;
  std::vector<TokenId> tokens;
  if (asked->conversation) {
    auto rendered = tokenize_conversation(*asked->conversation, model.text);
    if (!rendered) return error_reply(rendered.error());
    tokens = std::move(*rendered);
  } else {
    tokens = tokenizer.encode(asked->prompt, {.add_special = asked->add_special_tokens, .parse_special = true});
  }
  nlohmann::json strings;
  if (asked->return_token_strings) {
    strings = nlohmann::json::array();
    for (const TokenId id : tokens) strings.push_back(tokenizer.token_text(id));
  }
  return {.body = text_of({{"count", tokens.size()},
                           {"max_model_len", model.max_model_len},
                           {"tokens", tokens},
                           {"token_strs", strings}})};
}

HttpReply post_detokenize(ServerContext& context, const HttpRequest& request) {
  const auto document = parse_json(request.body);
  if (!document) return error_reply(document.error());
  const auto asked = read_detokenize_request(*document);
  if (!asked) return error_reply(asked.error());
  if (auto named = check_model_name(asked->model, context.served_model()); !named) return error_reply(named.error());
  const Tokenizer& tokenizer = *context.text.tokenizer;
  if (auto known = tokenizer.check_ids(asked->tokens); !known) {
    return error_reply({.message = known.error().message, .param = "tokens"});
  }
  return {.body = text_of({{"prompt", tokenizer.decode(asked->tokens, /*skip_special=*/false)}})};
}

constexpr Route kRoutes[] = {
    {"GET", "/health", RouteKind::kImmediate, /*open=*/true, get_health},
    {"GET", "/metrics", RouteKind::kImmediate, false, get_metrics},
    {"GET", "/v1/models", RouteKind::kImmediate, false, get_models},
    {"POST", "/v1/completions", RouteKind::kCompletion},
    {"POST", "/v1/chat/completions", RouteKind::kChatCompletion},
    {"POST", "/tokenize", RouteKind::kWorker, false, post_tokenize},
    {"POST", "/detokenize", RouteKind::kWorker, false, post_detokenize},
    {"GET", "/admin/config", RouteKind::kImmediate, false, get_admin_config},
    {"POST", "/admin/reconfigure", RouteKind::kAdmin, false, post_admin_reconfigure},
    {"POST", "/admin/prefix_cache/save", RouteKind::kAdmin, false, post_admin_save_prefix_cache},
    {"POST", "/admin/reset_prefix_cache", RouteKind::kAdmin, false, post_admin_reset_prefix_cache},
};
constexpr Route kModelRoute = {"GET", kModelPrefix, RouteKind::kImmediate, false, get_model};

const Route* route_of_path(std::string_view path) {
  for (const Route& route : kRoutes) {
    if (route.path == path) return &route;
  }
  return path.starts_with(kModelPrefix) && path.size() > kModelPrefix.size() ? &kModelRoute : nullptr;
}

}  // namespace

tl::expected<const Route*, HttpReply> find_route(std::string_view method, std::string_view path) {
  const Route* route = route_of_path(path);
  if (route == nullptr) {
    std::string paths;
    for (const Route& r : kRoutes) paths += fmt::format("{}{} {}", paths.empty() ? "" : ", ", r.method, r.path);
    ApiError error = to_api_error({ErrorCode::kNotFound, "no such path; this server has " + paths});
    return tl::unexpected<HttpReply>(error_reply(error));
  }
  if (route->method == method || (route->method == "GET" && method == "HEAD")) return route;
  const std::string allowed = route->method == "GET" ? "GET, HEAD, OPTIONS" : "POST, OPTIONS";
  HttpReply reply;
  if (method == "OPTIONS") {
    reply.status = 204;
  } else {
    reply = error_reply({.status = 405,
                         .message = fmt::format("{} is not allowed on {}; use {}", method, path, route->method)});
  }
  reply.headers.emplace_back("Allow", allowed);
  return tl::unexpected<HttpReply>(std::move(reply));
}

bool authorized(std::string_view authorization, std::string_view api_key) {
  if (api_key.empty()) return true;
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return false;
  for (size_t i = 0; i < kScheme.size(); ++i) {
    const char c = authorization[i];
    if ((c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c) != kScheme[i]) return false;
  }
  authorization.remove_prefix(kScheme.size());
  // Every byte of what was sent is looked at, whatever it holds; only its length can show.
  unsigned difference = authorization.size() == api_key.size() ? 0 : 1;
  for (size_t i = 0; i < authorization.size(); ++i) {
    difference |= static_cast<unsigned char>(authorization[i]) ^ static_cast<unsigned char>(api_key[i % api_key.size()]);
  }
  return difference == 0;
}

}  // namespace crible
