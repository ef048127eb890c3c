// out[r, c] = activation(gate_up[r, c]) · gate_up[r, columns + c]: the gated half of an MLP on the output of a
// fused gate/up matmul, and the walk over its rows that silu_mul and gelu_mul share.
#pragma once

#include <cstdint>

#include "ops/row_chunks.h"

namespace crible {

struct GatedProduct {
  const float* gate_up;  // [rows, 2 · columns]
  int64_t gate_up_stride;
  float* out;  // [rows, columns]
  int64_t out_stride;
  int64_t rows;
  int64_t columns;
};

// Rows [begin, end) of one activation, per instruction set.
using GatedRowsKernel = void (*)(const GatedProduct& args, int64_t begin, int64_t end);

inline void run_gated_product(Stream& stream, const GatedProduct& args, GatedRowsKernel kernel) {
  // An exponential and a division weigh about four plain elements.
  for_row_chunks(stream, args.rows, args.columns * 4,
                 [&](int64_t begin, int64_t end) { kernel(args, begin, end); });
}

template <typename Activation>
void gated_rows(const GatedProduct& args, int64_t begin, int64_t end, Activation activation) {
  for (int64_t r = begin; r < end; ++r) {
    const float* gate = args.gate_up + r * args.gate_up_stride;
    const float* up = gate + args.columns;
    float* out = args.out + r * args.out_stride;
    for (int64_t c = 0; c < args.columns; ++c) out[c] = activation(gate[c]) * up[c];
  }
}

}  // namespace crible
