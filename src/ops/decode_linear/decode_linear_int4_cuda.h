// decode_linear's part for 4-bit weights in int4_tiles.h's order; called through decode_linear_cuda.h. Reads
// 1,072 bytes for 2,048 weights (groups of 128). K a multiple of 128, N of 16 (8 for kSiluMul, paired tiles);
// no logits.
#pragma once

#include "ops/decode_linear/decode_linear_cuda.h"

namespace crible::cuda {

bool decode_linear_int4_fits(int rows, int64_t out_features, int64_t in_features, DecodeEpilogue epilogue);
void prepare_decode_linear_int4();
void decode_linear_int4(const CudaStream& stream, DecodeEpilogue epilogue, const DecodeLinearArgs& args);

}  // namespace crible::cuda
