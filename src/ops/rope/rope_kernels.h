// Rotates every head of tokens [begin, end) of one tensor (q or k), per instruction set; all agree
// bit for bit (two products, one sum, each rounded).
#pragma once

#include <cstdint>

namespace crible {

struct RopeHeads {
  float* x;  // [num_tokens, heads, head_size], row stride in floats
  int64_t stride;
  int64_t heads;
  int64_t head_size;
  int64_t rotary_size;
  const int32_t* positions;  // [num_tokens]
  const float* cosine;       // [max_positions, rotary_size / 2]
  const float* sine;
  bool interleaved;
};

void rope_tokens_scalar(const RopeHeads& heads, int64_t begin, int64_t end);
#if defined(__x86_64__)
void rope_tokens_avx2(const RopeHeads& heads, int64_t begin, int64_t end);
#endif

}  // namespace crible
