// out[r] = x[r] / sqrt(mean(x[r]²) + epsilon) · weight, per row of `columns` (Zhang & Sennrich 2019).
// With groups, per each of the vectors side by side in a row: QK-norm, whose vectors are heads. May run in
// place. Moves 8·rows·groups·columns bytes, half as many again where it accumulates.
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
  bool accumulate = false;             // add to out: the residual connection
  int64_t groups = 1;                  // vectors of `columns` in each row of x and out, all under one weight
  const int32_t* row_index = nullptr;  // [rows]: row r comes from x[row_index[r]]; null: from x[r]
};

void rms_norm(Stream& stream, const RmsNormArgs& args);

}  // namespace crible
