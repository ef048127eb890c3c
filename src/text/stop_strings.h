// Watches a text that arrives in pieces for stop strings. Text that may turn out to be the start of
// one is held back. The match is the one that ends first and, of those that end together, the one
// that starts first; so how the text was cut into pieces changes nothing.
// One generation, one matcher; not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace crible {

class StopStringMatcher {
 public:
  // kInvalidArgument for an empty stop string. include_stop: the stop string ends the text that
  // comes out; else the text ends before it.
  static Result<StopStringMatcher> make(std::vector<std::string> stops, bool include_stop);

  // Appends to out the text that no stop string can still claim. True once a stop string was
  // found; what is pushed after that is ignored.
  bool push(std::string_view piece, std::string& out);
  // The end of the generation: appends what was held back.
  void flush(std::string& out);

  bool stopped() const { return matched_ >= 0; }
  // Index, in the list given to make, of the stop string found; -1 before.
  int matched() const { return matched_; }

 private:
  // One stop string and how much of it the text ends with (Knuth, Morris, Pratt 1977).
  struct Automaton {
    std::string stop;
    std::vector<uint32_t> fallback;  // fallback[n]: longest border of the first n bytes
    size_t state = 0;
  };
  StopStringMatcher() = default;
  static void advance(Automaton& automaton, char byte);

  std::vector<Automaton> automata_;
  std::string held_;
  bool include_stop_ = false;
  int matched_ = -1;
};

}  // namespace crible
