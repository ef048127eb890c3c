#include "study/run/interrupt.h"

#include <csignal>

namespace crible::study {
namespace {

// A signal handler can reach nothing but a global.
std::atomic<bool> interrupted_flag{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int number) {
  interrupted_flag.store(true);
  std::signal(number, SIG_DFL);
}

}  // namespace

InterruptScope::InterruptScope() {
  interrupted_flag = false;
  std::signal(SIGINT, on_signal);
  std::signal(SIGTERM, on_signal);
}

InterruptScope::~InterruptScope() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

const std::atomic<bool>& InterruptScope::flag() const {
  return interrupted_flag;
}

}  // namespace crible::study
