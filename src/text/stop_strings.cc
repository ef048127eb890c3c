#include "text/stop_strings.h"

#include <algorithm>

namespace crible {

Result<StopStringMatcher> StopStringMatcher::make(std::vector<std::string> stops, bool include_stop) {
  StopStringMatcher matcher;
  matcher.include_stop_ = include_stop;
  for (std::string& stop : stops) {
    if (stop.empty()) {
      return fail(ErrorCode::kInvalidArgument, "a stop string is empty; leave it out instead");
    }
    Automaton automaton;
    automaton.fallback.assign(stop.size() + 1, 0);
    for (size_t n = 1, border = 0; n < stop.size(); ++n) {
      while (border > 0 && stop[n] != stop[border]) border = automaton.fallback[border];
      if (stop[n] == stop[border]) ++border;
      automaton.fallback[n + 1] = static_cast<uint32_t>(border);
    }
    automaton.stop = std::move(stop);
    matcher.automata_.push_back(std::move(automaton));
  }
  return matcher;
}

void StopStringMatcher::advance(Automaton& automaton, char byte) {
  while (automaton.state > 0 && automaton.stop[automaton.state] != byte) {
    automaton.state = automaton.fallback[automaton.state];
  }
  if (automaton.stop[automaton.state] == byte) ++automaton.state;
}

bool StopStringMatcher::push(std::string_view piece, std::string& out) {
  if (stopped()) return true;
  if (automata_.empty()) {
    out.append(piece);
    return false;
  }
  size_t claimed = 0;  // bytes at the end that may be the start of a stop string
  for (const char byte : piece) {
    held_.push_back(byte);
    claimed = 0;
    size_t matched_size = 0;
    for (size_t i = 0; i < automata_.size(); ++i) {
      Automaton& automaton = automata_[i];
      advance(automaton, byte);
      claimed = std::max(claimed, automaton.state);
      if (automaton.state == automaton.stop.size() && automaton.state > matched_size) {
        matched_size = automaton.state;
        matched_ = static_cast<int>(i);
      }
    }
    if (stopped()) {
      out.append(held_, 0, include_stop_ ? held_.size() : held_.size() - matched_size);
      held_.clear();
      return true;
    }
  }
  if (piece.empty()) return false;
  out.append(held_, 0, held_.size() - claimed);
  held_.erase(0, held_.size() - claimed);
  return false;
}

void StopStringMatcher::flush(std::string& out) {
  out.append(held_);
  held_.clear();
}

}  // namespace crible
