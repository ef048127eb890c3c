// /admin/*: what the server was asked to be, what it is, and changing it while it runs.
#pragma once

#include "server/http_message.h"
#include "server/server_context.h"

namespace crible {

HttpReply get_admin_config(ServerContext& context, const HttpRequest& request);
// A JSON object of knobs, applied over the values requested so far: all or nothing.
HttpReply post_admin_reconfigure(ServerContext& context, const HttpRequest& request);
// Writes prefix-cache-file; steps wait meanwhile.
HttpReply post_admin_save_prefix_cache(ServerContext& context, const HttpRequest& request);
HttpReply post_admin_reset_prefix_cache(ServerContext& context, const HttpRequest& request);

}  // namespace crible
