// How the blocks of a decode product share a matrix equally: each takes a run of its windows, and a part of
// the matrix (a group of tiles) that several runs touch is added up by the block in which it begins, from
// what the others leave in DecodeLinearArgs::shares. All blocks of the grid must run at once. Included by
// decode_linear's .cu files only.
#pragma once

#include <algorithm>

#include "ops/decode_linear/decode_linear_parts.cuh"

namespace crible::cuda::decode_linear_parts {

// A block's run of the matrix, in windows: those of a part of it (a tile, a group of tiles) lie one after the
// other, then come the next part's.
struct Run {
  int parts;
  int windows;  // of a part
  int begin, end;

  __device__ Run(const DecodeLinearArgs& a, int matrix_parts, int windows_of_part)
      : parts(matrix_parts),
        windows(windows_of_part),
        begin(first(a, static_cast<int>(blockIdx.x))),
        end(first(a, static_cast<int>(blockIdx.x) + 1)) {}
  __device__ int first(const DecodeLinearArgs& a, int block) const {
    // 32 bits: grid_of() sees to it, and the kernel begins with these divisions.
    const auto pieces = static_cast<unsigned>(a.shares == nullptr ? parts : parts * windows);
    const auto piece = static_cast<int>(pieces * static_cast<unsigned>(block) / gridDim.x);
    return a.shares == nullptr ? piece * windows : piece;
  }
};

// Where a block leaves its sums of the part that began in an earlier one: [row of x][row of the part].
__device__ inline uint64_t* share_of(const DecodeLinearArgs& a, int block, int r, int row) {
  return a.shares + (block * kMaxDecodeRows + r) * kMaxShareRows + row;
}
__device__ inline void leave_share(const DecodeLinearArgs& a, int r, int row, float sum) {
  const uint64_t there = uint64_t{1} << 32 | __float_as_uint(sum);
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(share_of(a, static_cast<int>(blockIdx.x), r, row)),
               "l"(there)
               : "memory");
}
__device__ inline uint64_t look_for_share(const uint64_t* place) {
  uint64_t found;
  asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(found) : "l"(place) : "memory");
  return found;
}
// What later blocks have of a part that this block's run begins and does not end, in their order. Sum and
// presence are one word: no other order of memory is needed. Makes ready for the next product.
__device__ inline float take_shares(const DecodeLinearArgs& a, const Run& run, int part, int r, int row) {
  constexpr int kAtOnce = 8;
  float sum = 0;
  const int end = (part + 1) * run.windows;
  for (int block = static_cast<int>(blockIdx.x) + 1; run.first(a, block) < end; block += kAtOnce) {
    uint64_t found[kAtOnce];
    bool there[kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      there[i] = block + i < static_cast<int>(gridDim.x) && run.first(a, block + i) < end;
      if (there[i]) found[i] = look_for_share(share_of(a, block + i, r, row));
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (!there[i]) break;
      uint64_t* place = share_of(a, block + i, r, row);
      while (found[i] == 0) found[i] = look_for_share(place);
      *place = 0;
      sum += __uint_as_float(static_cast<uint32_t>(found[i]));
    }
  }
  return sum;
}

// Blocks of a product: `fewest` windows or more for each.
inline unsigned grid_of(const DecodeLinearArgs& a, int parts, int windows, int fewest) {
  CHECK(int64_t{parts} * windows * kMaxDecodeBlocks < int64_t{1} << 31, "{} x {} windows", parts, windows);
  const int most = a.shares == nullptr ? parts : std::max(1, parts * windows / fewest);
  return static_cast<unsigned>(std::min({most, multiprocessors(), kMaxDecodeBlocks}));
}

}  // namespace crible::cuda::decode_linear_parts
