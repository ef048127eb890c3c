// A fixed set of threads that run one parallel loop at a time. The caller takes part, so a pool of
// one thread starts none. Tasks are claimed one by one from a shared counter: a thread that the
// operating system holds up delays only the task it has in hand, and a thread that has not woken
// yet is not waited for. Waiting threads spin for a short bounded time, then sleep.
// One caller at a time (the stream's owner). Loops do not nest. Nothing is allocated per loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

#include "base/result.h"

namespace crible {

class ThreadPool {
 public:
  // threads >= 1, the caller included.
  static Result<std::unique_ptr<ThreadPool>> create(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(task, thread) for every task in [0, tasks), each exactly once, in any order and on
  // any thread; thread is in [0, threads()) and two calls that overlap in time have different ones. Returns when all
  // calls have returned, with their writes visible.
  template <typename Body>
  void parallel_for(int64_t tasks, Body&& body) {
    if (tasks <= 0) return;
    if (tasks == 1 || workers_.empty()) {
      for (int64_t task = 0; task < tasks; ++task) body(task, 0);
      return;
    }
    run(tasks, &call<std::remove_reference_t<Body>>, &body);
  }

 private:
  using Call = void (*)(const void* body, int64_t task, int thread);

  template <typename Body>
  static void call(const void* body, int64_t task, int thread) {
    (*static_cast<const Body*>(body))(task, thread);
  }

  ThreadPool() = default;
  void run(int64_t tasks, Call call, const void* body);
  void work(int thread);
  void take_tasks(int thread);
  bool enter();
  void leave();
  void wait_for_workers();

  // The loop under way. Written by the caller while the gate is shut and nobody is inside, read
  // by workers that have entered.
  Call call_ = nullptr;
  const void* body_ = nullptr;
  int64_t tasks_ = 0;

  alignas(64) std::atomic<int64_t> next_{0};     // first task not yet claimed
  alignas(64) std::atomic<uint32_t> gate_{0};    // kOpen bit + number of workers inside
  alignas(64) std::atomic<uint32_t> epoch_{0};   // counts loops; workers wait for it to change
  alignas(64) std::atomic<int32_t> sleepers_{0}; // workers in, or on their way into, a sleep
  std::atomic<bool> caller_sleeps_{false};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace crible
