// For tests: collects the events of one request from the engine's thread; wait() returns them once
// the last has come.
#pragma once

#include <future>
#include <vector>

#include "engine/request.h"

namespace crible {

class CollectedOutput {
 public:
  std::function<void(const TokenOutput&)> sink() {
    return [this](const TokenOutput& event) {
      events_.push_back(event);
      if (event.finish != FinishReason::kNone) end_.set_value();
    };
  }

  const std::vector<TokenOutput>& wait() {
    ended_.wait();
    return events_;
  }
  const TokenOutput& last() { return wait().back(); }
  std::vector<TokenId> tokens() {
    std::vector<TokenId> tokens;
    for (const TokenOutput& event : wait()) {
      if (event.token >= 0) tokens.push_back(event.token);
    }
    return tokens;
  }

 private:
  std::vector<TokenOutput> events_;
  std::promise<void> end_;
  std::shared_future<void> ended_ = end_.get_future().share();
};

}  // namespace crible
