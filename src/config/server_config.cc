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
      {.name = "log-level", .member = &C::log_level, .choices = {"debug", "info", "warning", "error", "off"},
       .help = "least severe message printed"},
      {.name = "ready-file", .member = &C::ready_file,
       .help = "file written with the port once the server is ready; empty = none"},
  });
  return table;
}

}  // namespace crible
