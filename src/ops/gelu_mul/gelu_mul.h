// out[r, c] = gelu(gate_up[r, c]) · gate_up[r, columns + c] with GELU's tanh form (Hendrycks & Gimpel 2016):
// the gated half of a GeGLU MLP on the output of a fused gate/up matmul. Moves 12·rows·columns bytes.
#pragma once

#include "device/stream.h"
#include "ops/gated_product.h"

namespace crible {

void gelu_mul(Stream& stream, const GatedProduct& args);

}  // namespace crible
