// CHECK: a broken invariant ends the process with the place and the values, in every build type.
// For anything the outside world can cause, use Result<T> instead.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace crible {

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view message);

}  // namespace crible

#define CHECK(condition, ...)                                                       \
  do {                                                                              \
    if (!(condition)) [[unlikely]] {                                                \
      ::crible::check_failed(__FILE__, __LINE__, #condition,                        \
                             ::fmt::format("" __VA_ARGS__));                        \
    }                                                                               \
  } while (false)
