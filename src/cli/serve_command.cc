#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "cli/command.h"
#include "server/serve.h"

namespace crible {
namespace {

// What is wrong with the arguments or a file named in them is 2; what fails at work is 1.
int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:
    case ErrorCode::kUnsupported:
    case ErrorCode::kCorrupt: return 2;
    default: return 1;
  }
}

int report(const Error& error) {
  fmt::print(stderr, "crible serve: {}\n", error.message);
  return exit_code(error.code);
}

}  // namespace

int run_serve(int argc, char** argv) {
  const std::vector<std::string_view> arguments(argv + 1, argv + argc);
  const char* environment_key = std::getenv("CRIBLE_API_KEY");
  const auto options = parse_serve_arguments(arguments, environment_key == nullptr ? "" : environment_key);
  if (!options) {
    report(options.error());
    return 2;
  }
  if (options->help) {
    fmt::print("{}", serve_help());
    return 0;
  }
  if (const Status log = init_log(options->server.log_level); !log) return report(log.error());
  if (const Status served = serve(*options); !served) return report(served.error());
  return 0;
}

}  // namespace crible
