// The arguments of `crible serve`: the model, a flag for every field of the engine's and the server's
// tables, and a JSON file of the same settings. Nothing here is spelt twice: names, ranges and help
// come from the tables.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "config/engine_config.h"
#include "config/server_config.h"

namespace crible {

struct ServeOptions {
  bool help = false;  // nothing else is filled
  std::filesystem::path model;
  EngineConfig engine;
  ServerConfig server;
};

// arguments: without program and command. Later wins over earlier, a flag over --config, --api-key
// over environment_key. A bool takes --NAME, --no-NAME and --NAME=false.
Result<ServeOptions> parse_serve_arguments(std::span<const std::string_view> arguments,
                                           std::string_view environment_key);

std::string serve_help();

}  // namespace crible
