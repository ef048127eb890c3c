#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace crible {

Status init_log(const std::string& level) {
  const auto parsed = spdlog::level::from_str(level);
  // from_str answers "off" for a name it does not know.
  if (parsed == spdlog::level::off && level != "off") {
    return fail(ErrorCode::kInvalidArgument,
                "log level '{}' is not known; use debug, info, warning, error or off", level);
  }
  auto logger = std::make_shared<spdlog::logger>(
      "crible", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
  logger->set_level(parsed);
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
  return {};
}

}  // namespace crible
