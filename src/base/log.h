// Process log: one line per event on standard error, level and time first. spdlog underneath;
// use log_info("... {}", x) and its siblings so that no room depends on spdlog's spelling.
#pragma once

#include <spdlog/spdlog.h>

#include "base/result.h"

namespace crible {

// level: "debug", "info", "warning", "error" or "off". Call once, from main.
Status init_log(const std::string& level);

template <typename... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  spdlog::debug(fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  spdlog::info(fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  spdlog::warn(fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  spdlog::error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace crible
