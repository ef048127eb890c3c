// out[r, c] = gelu(gate_up[r, c]) · gate_up[r, columns + c] with GELU's tanh form (Hendrycks & Gimpel 2016):
// the gated half of a GeGLU MLP on the output of a fused gate/up matmul. Moves 12·rows·columns bytes.
#pragma once

#include "device/stream.h"

namespace crible {

struct GeluMulArgs {
  const float* gate_up;  // [rows, 2 · columns]
  int64_t gate_up_stride;
  float* out;  // [rows, columns]
  int64_t out_stride;
  int64_t rows;
  int64_t columns;
};

void gelu_mul(Stream& stream, const GeluMulArgs& args);

}  // namespace crible
