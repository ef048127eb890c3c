// Elements [begin, end) of softcap, per instruction set; all agree bit for bit.
#pragma once

#include <cstdint>

namespace crible {

void softcap_scalar(float* x, float cap, int64_t begin, int64_t end);
#if defined(__x86_64__)
void softcap_avx2(float* x, float cap, int64_t begin, int64_t end);
#endif

}  // namespace crible
