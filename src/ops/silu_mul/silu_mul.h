// out[r, c] = silu(gate_up[r, c]) · gate_up[r, columns + c]: the gated half of a SwiGLU MLP on the
// output of a fused gate/up matmul. Moves 12·rows·columns bytes.
#pragma once

#include "device/stream.h"
#include "ops/gated_product.h"

namespace crible {

void silu_mul(Stream& stream, const GatedProduct& args);

}  // namespace crible
