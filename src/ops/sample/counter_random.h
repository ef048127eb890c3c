// Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011): a
// random number as a pure function of (key, counter), so that a draw needs no state.
#pragma once

#include <array>
#include <cstdint>

namespace crible {

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Uniform in [0, 1), a multiple of 2⁻⁵³.
double uniform_from(uint64_t seed, uint64_t position);

}  // namespace crible
