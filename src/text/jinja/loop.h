// The `loop` object of a for statement: position, neighbours, and what loop.changed() saw last.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "text/jinja/value.h"

namespace crible::jinja {

struct LoopState {
  SequencePtr items;  // already filtered
  int64_t index0 = 0;
  std::optional<std::vector<Value>> last_changed;

  int64_t length() const { return static_cast<int64_t>(items->items.size()); }
};

}  // namespace crible::jinja
