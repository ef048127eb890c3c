// Rotates every head of one token, of q or k, per instruction set; all agree bit for bit (two products,
// one sum, each rounded).
#pragma once

#include <cstdint>

namespace crible {

struct RopeHeads {
  int64_t heads;
  int64_t head_size;
  int64_t rotary_size;
  bool interleaved;
};

// x [heads, head_size]; cosine and sine [rotary_size / 2].
void rope_token_scalar(const RopeHeads& heads, float* x, const float* cosine, const float* sine);
#if defined(__x86_64__)
void rope_token_avx2(const RopeHeads& heads, float* x, const float* cosine, const float* sine);
#endif

}  // namespace crible
