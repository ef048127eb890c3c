// out[r] = x[r] / sqrt(mean(x[r]²) + epsilon) · weight, per row of `columns` (Zhang & Sennrich 2019).
// May run in place. Moves 8·rows·columns bytes.
#pragma once

#include "device/stream.h"

namespace crible {

struct RmsNormArgs {
  const float* x;
  int64_t x_stride;
  float* out;
  int64_t out_stride;
  const float* weight;  // [columns]
  int64_t rows;
  int64_t columns;
  float epsilon;
};

void rms_norm(Stream& stream, const RmsNormArgs& args);

}  // namespace crible
