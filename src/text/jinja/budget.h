// What one render may spend. A chat template comes with a model file and its data from a client, so
// neither is trusted: every evaluated node, every element built and every 64 bytes of text built
// costs one step, and a render that runs out of steps ends in an error instead of in a stuck thread.
// One Budget belongs to one render on one thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "text/jinja/template_error.h"

namespace crible::jinja {

struct Limits {
  int64_t max_steps = 1'000'000;  // some 0.1 s
  int max_depth = 400;            // nested evaluations: expressions, statements and macro calls together
  int64_t max_string_bytes = int64_t{32} << 20;  // of one string, and of the output
  int64_t max_range_items = 100'000;
};

inline constexpr int64_t kTextBytesPerStep = 64;
inline constexpr int64_t kMappedBytesPerStep = 8;
// Nesting of lists and dicts in one value; keeps printing and destruction off the end of the stack.
inline constexpr uint32_t kMaxValueDepth = 128;

class Budget {
 public:
  explicit Budget(const Limits& limits) : limits_(limits), steps_left_(limits.max_steps) {}

  const Limits& limits() const { return limits_; }

  void charge(int64_t steps) {
    if (steps > steps_left_) [[unlikely]] {
      steps_left_ = 0;
      throw TemplateError{{ErrorCode::kResourceExhausted,
                           fmt::format("the template needs more than {} steps; it loops too long "
                                       "or builds too much",
                                       limits_.max_steps)},
                          0};
    }
    steps_left_ -= steps;
  }

  // Before or while building a string of so many bytes.
  void check_text(int64_t bytes) const {
    if (bytes > limits_.max_string_bytes) [[unlikely]] {
      throw TemplateError{{ErrorCode::kResourceExhausted,
                           fmt::format("the template builds a text of {} bytes; the limit is {}", bytes,
                                       limits_.max_string_bytes)},
                          0};
    }
  }
  void charge_text(int64_t bytes) {
    check_text(bytes);
    charge(1 + bytes / kTextBytesPerStep);
  }
  // Before looking at every code point of a text, which is some ten times slower than copying it.
  void charge_mapping(int64_t bytes) {
    check_text(bytes);
    charge(1 + bytes / kMappedBytesPerStep);
  }

  class DepthGuard {
   public:
    explicit DepthGuard(Budget& budget) : budget_(budget) {
      if (++budget_.depth_ > budget_.limits_.max_depth) [[unlikely]] {
        --budget_.depth_;
        throw TemplateError{{ErrorCode::kResourceExhausted,
                             fmt::format("the template nests more than {} evaluations; a macro "
                                         "probably calls itself for ever",
                                         budget_.limits_.max_depth)},
                            0};
      }
    }
    ~DepthGuard() { --budget_.depth_; }
    DepthGuard(const DepthGuard&) = delete;
    DepthGuard& operator=(const DepthGuard&) = delete;

   private:
    Budget& budget_;
  };

 private:
  Limits limits_;
  int64_t steps_left_;
  int depth_ = 0;
};

}  // namespace crible::jinja
