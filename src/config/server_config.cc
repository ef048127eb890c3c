#include "config/server_config.h"

namespace crible {

const FieldTable<ServerConfig>& server_fields() {
  using C = ServerConfig;
  static const FieldTable<ServerConfig> table({
      {.name = "host", .member = &C::host, .help = "address to listen on"},
      {.name = "port", .member = &C::port, .minimum = 0, .maximum = 65535,
       .help = "port to listen on; 0 = any free one, printed when ready"},
      {.name = "api-key", .member = &C::api_key,
       .help = "key that every request but /health must carry as a bearer token; empty = none "
               "(CRIBLE_API_KEY in the environment keeps it out of process listings)"},
      {.name = "served-model-name", .member = &C::served_model_name,
       .help = "name of the model in the API; empty = the model file's name without its ending"},
      {.name = "drain-timeout", .member = &C::drain_timeout_seconds, .unit = "seconds", .minimum = 0, .maximum = 86400,
       .help = "how long running requests may go on after SIGTERM"},
      {.name = "max-request-bytes", .member = &C::max_request_bytes, .unit = "bytes", .minimum = 1024,
       .maximum = 1 << 30, .help = "largest request body taken; a larger one gets 413"},
      {.name = "request-timeout", .member = &C::request_timeout_seconds, .unit = "seconds", .minimum = 0,
       .maximum = 86400, .help = "longest that a completion may take from its arrival, waiting included; a request may "
                                 "ask for less with its field timeout; 0 = no limit"},
      {.name = "max-waiting-requests", .member = &C::max_waiting_requests, .unit = "sequences", .minimum = 0,
       .maximum = 1 << 20, .help = "sequences that may wait for a place; a request beyond gets 429 and is told when to "
                                   "come back; 0 = no limit"},
      {.name = "max-connections", .member = &C::max_connections, .unit = "connections", .minimum = 1,
       .maximum = 1 << 20, .help = "open connections; further ones wait in the system's queue"},
      {.name = "keep-alive-timeout", .member = &C::keep_alive_timeout_seconds, .unit = "seconds", .minimum = 0.1,
       .maximum = 86400, .help = "how long a connection may stay open between two requests"},
      {.name = "header-timeout", .member = &C::header_timeout_seconds, .unit = "seconds", .minimum = 0.1,
       .maximum = 86400, .help = "how long a client may take to send a request's header"},
      {.name = "body-timeout", .member = &C::body_timeout_seconds, .unit = "seconds", .minimum = 0.1,
       .maximum = 86400, .help = "how long a client may take to send a request's body"},
      {.name = "write-timeout", .member = &C::write_timeout_seconds, .unit = "seconds", .minimum = 0.1,
       .maximum = 86400, .help = "how long a client may leave an answer unread before its request is cancelled"},
      {.name = "max-unread-bytes", .member = &C::max_unread_bytes, .unit = "bytes", .minimum = 1024,
       .maximum = 1 << 30, .help = "of a stream that its client does not read fast enough; at more its request is "
                                   "cancelled"},
      {.name = "log-level", .member = &C::log_level, .choices = {"debug", "info", "warning", "error", "off"},
       .help = "least severe message printed"},
      {.name = "ready-file", .member = &C::ready_file,
       .help = "file written with the port once the server is ready; empty = none"},
  });
  return table;
}

}  // namespace crible
