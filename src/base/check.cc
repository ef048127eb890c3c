#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace crible {

void check_failed(const char* file, int line, const char* condition, std::string_view message) {
  fmt::print(stderr, "CHECK failed at {}:{}: {}{}{}\n", file, line, condition,
             message.empty() ? "" : ": ", message);
  std::fflush(stderr);
  std::abort();
}

}  // namespace crible
