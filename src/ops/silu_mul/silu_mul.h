// out[r, c] = silu(gate_up[r, c]) · gate_up[r, columns + c]: the gated half of a SwiGLU MLP on the
// output of a fused gate/up matmul. Moves 12·rows·columns bytes.
#pragma once

#include "device/stream.h"

namespace crible {

struct SiluMulArgs {
  const float* gate_up;  // [rows, 2 · columns]
  int64_t gate_up_stride;
  float* out;  // [rows, columns]
  int64_t out_stride;
  int64_t rows;
  int64_t columns;
};

void silu_mul(Stream& stream, const SiluMulArgs& args);

}  // namespace crible
