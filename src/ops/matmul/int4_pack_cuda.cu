#include <cuda_fp16.h>

#include <cmath>

#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/matmul/int4_operand.cuh"
#include "ops/matmul/int4_pack_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kHalfRows = 8;  // of a tile: what a warp packs of a window
constexpr int kQ4Bytes = 18;

// Eight rows of a matrix that lie together, as one half of a tile.
struct TileHalf {
  int64_t tile;
  int half;
};
__device__ inline TileHalf half_of(const Int4Matrix& m, int64_t row) {
  if (!m.paired) return {row / kInt4TileRows, static_cast<int>(row / kHalfRows % 2)};
  const int64_t rows = m.rows / 2;
  return row < rows ? TileHalf{row / kHalfRows, 0} : TileHalf{(row - rows) / kHalfRows, 1};
}
__device__ inline uint8_t* window_of(const Int4Matrix& m, int64_t tile, int64_t window) {
  const int bytes = kInt4WindowNibbleBytes + kInt4GroupBytes * (kInt4WindowColumns / m.group);
  return m.tiles +
         int4_window_index(tile, window, m.rows / kInt4TileRows, m.columns / kInt4WindowColumns) * bytes;
}

// Where AWQ puts output i of a word's eight.
__device__ inline int awq_shift(int64_t row) {
  const int i = static_cast<int>(row % 8);
  return i / 2 * 4 + i % 2 * 16;
}
__device__ inline uint32_t word_at(const void* words, int64_t index) {
  return static_cast<const uint32_t*>(words)[index];
}

__device__ inline uint32_t integer(const RawInt4& raw, int64_t row, int64_t column) {
  switch (raw.source) {
    case Int4Source::kAwq:
      return word_at(raw.qweight, column * (raw.rows / 8) + row / 8) >> awq_shift(row) & 15u;
    case Int4Source::kGptq:
      return word_at(raw.qweight, column / 8 * raw.rows + row) >> (column % 8 * 4) & 15u;
    case Int4Source::kQ4_0: break;
  }
  const auto* block =
      static_cast<const uint8_t*>(raw.qweight) + (row * (raw.columns / 32) + column / 32) * kQ4Bytes;
  return static_cast<uint32_t>(block[2 + column % 16]) >> (column % 32 < 16 ? 0 : 4) & 15u;
}
__device__ inline uint32_t zero_point(const RawInt4& raw, int64_t row, int64_t group) {
  if (raw.source == Int4Source::kQ4_0) return 8;
  const uint32_t word = word_at(raw.qzeros, group * (raw.rows / 8) + row / 8);
  if (raw.source == Int4Source::kAwq) return word >> awq_shift(row) & 15u;
  return ((word >> (row % 8 * 4)) + (raw.zeros_less_one ? 1 : 0)) & 15u;
}
__device__ inline __half scale_of(const RawInt4& raw, int64_t row, int64_t group) {
  if (raw.source == Int4Source::kQ4_0) {
    const auto* block =
        static_cast<const uint8_t*>(raw.qweight) + (row * (raw.columns / 32) + group) * kQ4Bytes;
    return __ushort_as_half(static_cast<uint16_t>(block[0] | block[1] << 8));
  }
  const int64_t i = group * raw.rows + row;
  switch (raw.scale_type) {
    case Int4ScaleType::kF16: return static_cast<const __half*>(raw.scales)[i];
    case Int4ScaleType::kBf16:
      return __float2half_rn(__bfloat162float(static_cast<const __nv_bfloat16*>(raw.scales)[i]));
    case Int4ScaleType::kF32: return __float2half_rn(static_cast<const float*>(raw.scales)[i]);
  }
  return __float2half_rn(0);
}

// One lane of a window's half: its four words, and one group's scale and zero point.
__global__ void __launch_bounds__(kThreads)
    pack_kernel(RawInt4 raw, Int4Matrix target, int64_t first_row, int64_t lanes) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= lanes) return;
  const int lane = static_cast<int>(index % 32);
  const int64_t windows = raw.columns / kInt4WindowColumns;
  const int64_t window = index / 32 % windows;
  const int64_t row = index / 32 / windows * kHalfRows + lane / 4;
  const TileHalf place = half_of(target, first_row + row);
  uint8_t* to = window_of(target, place.tile, window);
  uint32_t words[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    words[i] = 0;
    for (int e = 0; e < 8; ++e) {
      const int64_t column = window * kInt4WindowColumns + i * 32 + lane % 4 * 8 + e;
      words[i] |= integer(raw, row, column) << (e % 2 * 16 + e / 2 * 4);
    }
  }
  *reinterpret_cast<uint4*>(to + place.half * (kInt4WindowNibbleBytes / 2) + lane * 16) = {
      words[0], words[1], words[2], words[3]};
  const int groups = kInt4WindowColumns / target.group;
  const int j = lane % 4;
  if (j >= groups) return;
  const int64_t group = (window * kInt4WindowColumns + j * target.group) / raw.group;
  uint8_t* about = to + kInt4WindowNibbleBytes + j * kInt4GroupBytes;
  const int place_in_group = lane / 4 * 2 + place.half;
  reinterpret_cast<__half*>(about)[place_in_group] = scale_of(raw, row, group);
  about[2 * kInt4TileRows + place_in_group] = static_cast<uint8_t>(zero_point(raw, row, group));
}

__global__ void __launch_bounds__(kThreads)
    unpack_kernel(Int4Matrix matrix, int64_t first_row, __nv_bfloat16* out, int64_t lanes) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= lanes) return;
  const int lane = static_cast<int>(index % 32);
  const int64_t windows = matrix.columns / kInt4WindowColumns;
  const int64_t window = index / 32 % windows;
  const int64_t row = index / 32 / windows * kHalfRows + lane / 4;
  const TileHalf place = half_of(matrix, first_row + row);
  const uint8_t* from = window_of(matrix, place.tile, window);
  const uint4 words =
      *reinterpret_cast<const uint4*>(from + place.half * (kInt4WindowNibbleBytes / 2) + lane * 16);
  const int place_in_group = lane / 4 * 2 + place.half;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const uint8_t* about = from + kInt4WindowNibbleBytes + i * 32 / matrix.group * kInt4GroupBytes;
    const float scale = __half2float(reinterpret_cast<const __half*>(about)[place_in_group]);
    const float zero = static_cast<float>(about[2 * kInt4TileRows + place_in_group]);
    const uint32_t word = word_of(words, i);
    float values[kVector];
#pragma unroll
    for (int e = 0; e < kVector; ++e)
      values[e] = (static_cast<float>(word >> (e % 2 * 16 + e / 2 * 4) & 15u) - zero) * scale;
    const int64_t column = window * kInt4WindowColumns + i * 32 + lane % 4 * 8;
    store_vector(out + row * matrix.columns + column, to_vector(values));
  }
}

// SplitMix64's output function.
__device__ inline uint64_t mixed(uint64_t seed, int64_t i) {
  uint64_t z = seed + static_cast<uint64_t>(i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// A warp per window.
__global__ void __launch_bounds__(kThreads)
    fill_kernel(Int4Matrix matrix, int64_t windows, uint64_t seed, __half scale) {
  const int64_t window = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (window >= windows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int groups = kInt4WindowColumns / matrix.group;
  uint8_t* to = matrix.tiles + window * (kInt4WindowNibbleBytes + groups * kInt4GroupBytes);
  for (int i = lane; i < kInt4WindowNibbleBytes / 8; i += 32)
    reinterpret_cast<uint64_t*>(to)[i] = mixed(seed, window * (kInt4WindowNibbleBytes / 8) + i);
  if (lane >= kInt4TileRows) return;
  for (int j = 0; j < groups; ++j) {
    uint8_t* about = to + kInt4WindowNibbleBytes + j * kInt4GroupBytes;
    reinterpret_cast<__half*>(about)[lane] = scale;
    about[2 * kInt4TileRows + lane] = static_cast<uint8_t>(7 + (window + lane + j) % 2);
  }
}

unsigned blocks_for(int64_t threads) {
  return static_cast<unsigned>((threads + kThreads - 1) / kThreads);
}

}  // namespace

void pack_int4(const CudaStream& stream, const RawInt4& raw, const Int4Matrix& target, int64_t first_row) {
  CHECK(raw.rows % kHalfRows == 0 && first_row % kHalfRows == 0 && raw.columns == target.columns &&
            raw.columns % kInt4WindowColumns == 0 && raw.group % target.group == 0,
        "4-bit weights {} x {} in groups of {}", raw.rows, raw.columns, raw.group);
  const int64_t lanes = raw.rows / kHalfRows * (raw.columns / kInt4WindowColumns) * 32;
  launch(stream.get(), {.grid = dim3(blocks_for(lanes)), .block = dim3(kThreads)}, &pack_kernel, raw, target,
         first_row, lanes);
}

void unpack_int4(const CudaStream& stream, const Int4Matrix& matrix, int64_t first_row, int64_t rows,
                 __nv_bfloat16* out) {
  CHECK(rows % kHalfRows == 0 && first_row % kHalfRows == 0, "rows {} from {}", rows, first_row);
  const int64_t lanes = rows / kHalfRows * (matrix.columns / kInt4WindowColumns) * 32;
  launch(stream.get(), {.grid = dim3(blocks_for(lanes)), .block = dim3(kThreads)}, &unpack_kernel, matrix,
         first_row, out, lanes);
}

void fill_random_int4(const CudaStream& stream, const Int4Matrix& matrix, uint64_t seed, float deviation) {
  constexpr float kUniformDeviation = 4.61f;  // of integers from 0 to 15
  const int64_t windows = matrix.rows / kInt4TileRows * (matrix.columns / kInt4WindowColumns);
  launch(stream.get(), {.grid = dim3(blocks_for(windows * 32)), .block = dim3(kThreads)}, &fill_kernel,
         matrix, windows, seed, __float2half_rn(deviation / kUniformDeviation));
}

}  // namespace crible::cuda
