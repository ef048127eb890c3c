#include "device/cpu/thread_pool.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <system_error>

#include "base/check.h"
#include "base/clock.h"

namespace crible {
namespace {

constexpr uint32_t kOpen = 1u << 31;
// Longer than the serial work between two ops of a decode step, shorter than what another process
// on the same core would notice.
constexpr auto kSpinTime = std::chrono::microseconds(40);
constexpr int kPausesPerClockRead = 32;

void cpu_pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Sleeps while *word == expected; may return early.
void futex_wait(std::atomic<uint32_t>* word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}
void futex_wake_all(std::atomic<uint32_t>* word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(word), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

// Spins until done() or the spin time is over; returns done().
template <typename Done>
bool spin_until(const Done& done) {
  if (done()) return true;
  const TimePoint end = now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      cpu_pause();
      if (done()) return true;
    }
  } while (now() < end);
  return false;
}

}  // namespace

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(int threads) {
  CHECK(threads >= 1, "a pool needs at least the calling thread, not {}", threads);
  std::unique_ptr<ThreadPool> pool(new ThreadPool());
  pool->workers_.reserve(static_cast<size_t>(threads - 1));
  for (int t = 1; t < threads; ++t) {
    try {
      pool->workers_.emplace_back([raw = pool.get(), t] { raw->work(t); });
    } catch (const std::system_error& e) {
      return fail(ErrorCode::kResourceExhausted, "cannot start worker thread {} of {}: {}; lower --threads", t,
                  threads - 1, e.what());
    }
  }
  return pool;
}

ThreadPool::~ThreadPool() {
  stopping_.store(true);
  epoch_.fetch_add(1);
  futex_wake_all(&epoch_);
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t tasks, Call call, const void* body) {
  call_ = call;
  body_ = body;
  tasks_ = tasks;
  next_.store(0, std::memory_order_relaxed);
  gate_.store(kOpen, std::memory_order_release);
  // Sequentially consistent against the worker's "count myself as sleeper, then compare the epoch":
  // either we see the sleeper, or it sees the new epoch.
  epoch_.fetch_add(1);
  if (sleepers_.load() > 0) futex_wake_all(&epoch_);
  take_tasks(0);
  wait_for_workers();
}

void ThreadPool::take_tasks(int thread) {
  const int64_t tasks = tasks_;
  for (;;) {
    const int64_t task = next_.fetch_add(1, std::memory_order_relaxed);
    if (task >= tasks) return;
    call_(body_, task, thread);
  }
}

// Shuts the gate, then waits for those inside.
void ThreadPool::wait_for_workers() {
  gate_.fetch_and(~kOpen);
  while (!spin_until([&] { return gate_.load(std::memory_order_acquire) == 0; })) {
    caller_sleeps_.store(true);
    const uint32_t inside = gate_.load();
    if (inside != 0) futex_wait(&gate_, inside);
    caller_sleeps_.store(false);
  }
}

bool ThreadPool::enter() {
  uint32_t seen = gate_.load(std::memory_order_relaxed);
  while ((seen & kOpen) != 0) {
    if (gate_.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire)) return true;
  }
  return false;
}

void ThreadPool::leave() {
  // The last one out of a shut gate wakes the caller; sequentially consistent with its announcement.
  if (gate_.fetch_sub(1) == 1 && caller_sleeps_.load()) futex_wake_all(&gate_);
}

void ThreadPool::work(int thread) {
  uint32_t seen = 0;
  for (;;) {
    if (!spin_until([&] { return epoch_.load(std::memory_order_acquire) != seen; })) {
      sleepers_.fetch_add(1);
      while (epoch_.load() == seen) futex_wait(&epoch_, seen);
      sleepers_.fetch_sub(1);
    }
    seen = epoch_.load(std::memory_order_acquire);
    if (stopping_.load()) return;
    if (enter()) {
      take_tasks(thread);
      leave();
    }
  }
}

}  // namespace crible
