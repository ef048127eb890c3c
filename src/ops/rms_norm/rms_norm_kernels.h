// Rows [begin, end) of rms_norm, per instruction set. Squares are summed in eight partial sums
// (column modulo 8, by fused multiply-add), then pairwise 4, 2, 1 apart, so that all agree bit for bit.
#pragma once

#include <cstdint>

namespace crible {

struct RmsNormArgs;

void rms_norm_rows_scalar(const RmsNormArgs& args, int64_t begin, int64_t end);
#if defined(__x86_64__)
void rms_norm_rows_avx2(const RmsNormArgs& args, int64_t begin, int64_t end);
#endif

}  // namespace crible
