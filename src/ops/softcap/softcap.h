// x = cap · tanh(x / cap), in place: logits that cannot leave (-cap, cap) (Gemma 2). Moves 8 bytes an element.
#pragma once

#include <cstdint>

#include "device/stream.h"

namespace crible {

struct SoftcapArgs {
  float* x;  // [rows, columns]
  int64_t rows;
  int64_t columns;
  float cap;  // above 0
};

void softcap(Stream& stream, const SoftcapArgs& args);

}  // namespace crible
