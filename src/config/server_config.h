// Settings of `crible serve` that are not the engine's. Same table mechanism as engine_config.h.
#pragma once

#include "config/field_table.h"

namespace crible {

struct ServerConfig {
  std::string host = "127.0.0.1";
  int64_t port = 8000;  // 0 = any free port, printed when ready
  std::string api_key;  // empty = no key asked for
  std::string served_model_name;  // empty = the model file's name
  double drain_timeout_seconds = 30;
  int64_t max_request_bytes = 32 << 20;
  double request_timeout_seconds = 0;   // 0 = none
  int64_t max_waiting_requests = 0;     // 0 = no limit
  int64_t max_connections = 16'384;
  double keep_alive_timeout_seconds = 300;
  double header_timeout_seconds = 30;
  double body_timeout_seconds = 120;
  double write_timeout_seconds = 60;
  int64_t max_unread_bytes = 4 << 20;
  std::string log_level = "info";
  std::string ready_file;  // written atomically with the port when ready; empty = none
};

const FieldTable<ServerConfig>& server_fields();

}  // namespace crible
