// How tokens get from the engine's thread to the I/O thread: a queue without locks and one wake-up
// for a whole step, however many sequences it served.
#pragma once

#include <concurrentqueue/concurrentqueue.h>

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "engine/request.h"

namespace crible {

class CompletionJob;

class TokenInbox {
 public:
  // wake: makes the I/O thread call drain() soon; called from the engine's thread.
  explicit TokenInbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  // Any thread.
  void push(std::shared_ptr<CompletionJob> job, int choice, const TokenOutput& output);
  // I/O thread: hands every event to its job, in the order of each sequence.
  void drain();

 private:
  struct Event {
    std::shared_ptr<CompletionJob> job;
    int choice = 0;
    TokenOutput output;
    // What output's views show, which the engine lends for the call only.
    std::vector<TokenLogprob> logprobs, prompt_logprobs;
  };
  std::function<void()> wake_;
  moodycamel::ConcurrentQueue<Event> queue_;
  std::atomic<bool> wake_pending_ = false;
};

}  // namespace crible
