#include <cooperative_groups.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "device/cuda/launch.h"
#include "ops/bf16_vector.cuh"
#include "ops/matmul/int4_operand.cuh"
#include "ops/matmul/int4_rows_cuda.h"

namespace crible::cuda {
namespace {

namespace cg = cooperative_groups;

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kXWindowBytes = kInt4WindowColumns * 2;
constexpr int kXPadding = 64;  // keeps reads of two rows of x on different banks

// How a block works: kColumns · 8 rows of x, kWarpsK warps sharing K.
template <int kGroups, int kColumns, int kWarpsK>
struct Plan {
  static constexpr int kTiles = kWarps / kWarpsK;  // of W
  static constexpr int kRows = kColumns * 8;
  static constexpr int kWindowBytes = kInt4WindowNibbleBytes + kGroups * kInt4GroupBytes;
  static constexpr int kXStride = kWarpsK * kXWindowBytes + kXPadding;
  static constexpr int kStageBytes = kWarps * kWindowBytes + kRows * kXStride;
  static constexpr int kStages = kColumns == 2 ? 5 : kColumns == 4 ? 4 : 3;
  static constexpr int kOutputs = kTiles * kInt4TileRows;  // of a block
  static constexpr int kPartialFloats = kWarpsK * kRows * kOutputs;
  static constexpr size_t kSharedBytes =
      std::max<size_t>(kStages * kStageBytes, kPartialFloats * sizeof(float));
};

__device__ inline void copy_async(uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}
__device__ inline void multiply(float (&c)[4], uint32_t w0, uint32_t w1, uint32_t w2, uint32_t w3,
                                uint32_t x0, uint32_t x1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(w0), "r"(w1), "r"(w2), "r"(w3), "r"(x0), "r"(x1));
}

// A warp's part of the block's work: windows first + kWarpsK · step of one tile, for `steps` steps of the
// block.
struct WarpWork {
  int64_t tile;
  int first;
  int steps;
  bool has_tile;
};

template <typename P, int kWarpsK>
__device__ inline void request_weights(const Int4RowsArgs& a, const WarpWork& work, int step,
                                       uint32_t stage) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int windows = static_cast<int>(a.weight.columns) / kInt4WindowColumns;
  const int window = work.first + step * kWarpsK;
  if (step >= work.steps || window >= windows || !work.has_tile) return;
  const uint8_t* from = a.weight.tiles + (work.tile * windows + window) * P::kWindowBytes;
  const uint32_t to = stage + static_cast<uint32_t>(warp * P::kWindowBytes);
#pragma unroll
  for (int i = 0; i < (P::kWindowBytes + 511) / 512; ++i) {
    const int offset = i * 512 + lane * 16;
    if (offset < P::kWindowBytes) copy_async(to + static_cast<uint32_t>(offset), from + offset);
  }
}

template <typename P, int kWarpsK>
__device__ inline void request_x(const Int4RowsArgs& a, int first_window, int step, int steps,
                                 uint32_t stage) {
  if (step >= steps) return;
  constexpr int kChunks = kWarpsK * kXWindowBytes / 16;  // of a row
  const int64_t column = static_cast<int64_t>(first_window + step * kWarpsK) * kInt4WindowColumns;
  for (int i = static_cast<int>(threadIdx.x); i < static_cast<int>(a.rows) * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int chunk = i % kChunks;
    if (column + chunk * 8 >= a.weight.columns) continue;
    copy_async(stage + static_cast<uint32_t>(kWarps * P::kWindowBytes + row * P::kXStride + chunk * 16),
               a.x + row * a.weight.columns + column + chunk * 8);
  }
}

// Adds one window's products: sums of rows g and g + 8 of the tile with rows 8·c + 2·t and the next of x.
template <int kGroups, int kColumns, int kXStride>
__device__ inline void multiply_window(float (&sums)[kColumns][4], const uint8_t* window, const uint8_t* x) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const uint4 low = *reinterpret_cast<const uint4*>(window + lane * 16);
  const uint4 high = *reinterpret_cast<const uint4*>(window + kInt4WindowNibbleBytes / 2 + lane * 16);
#pragma unroll
  for (int j = 0; j < kGroups; ++j) {
    const uint8_t* about = window + kInt4WindowNibbleBytes + j * kInt4GroupBytes;
    const float2 scale = __half22float2(reinterpret_cast<const __half2*>(about)[lane / 4]);
    const uint32_t zeros = reinterpret_cast<const uint16_t*>(about + 2 * kInt4TileRows)[lane / 4];
    const Bf16Zero low_zero(zeros & 0xFFu);
    const Bf16Zero high_zero(zeros >> 8);
    float c[kColumns][4] = {};
#pragma unroll
    for (int i = j * 4 / kGroups; i < (j + 1) * 4 / kGroups; ++i) {
      const uint4 l = low_zero.unpack(word_of(low, i));
      const uint4 h = high_zero.unpack(word_of(high, i));
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        const uint4 v =
            *reinterpret_cast<const uint4*>(x + (n * 8 + lane / 4) * kXStride + i * 64 + lane % 4 * 16);
        multiply(c[n], l.x, h.x, l.y, h.y, v.x, v.y);
        multiply(c[n], l.z, h.z, l.w, h.w, v.z, v.w);
      }
    }
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      sums[n][0] += scale.x * c[n][0];
      sums[n][1] += scale.x * c[n][1];
      sums[n][2] += scale.y * c[n][2];
      sums[n][3] += scale.y * c[n][3];
    }
  }
}

// Adds up what the warps and the cluster's blocks have of each output and writes it. Each block of the
// cluster takes every size-th output. partial: this block's, [kWarpsK][kRows][kOutputs].
template <typename P, int kWarpsK, Int4RowsEpilogue kEpilogue>
__device__ inline void finish(const Int4RowsArgs& a, float* partial, int64_t first_tile) {
  cg::cluster_group cluster = cg::this_cluster();
  const int size = static_cast<int>(cluster.num_blocks());
  constexpr bool kGated = kEpilogue == Int4RowsEpilogue::kSiluMul;
  constexpr int kWritten = kGated ? P::kOutputs / 2 : P::kOutputs;
  const auto total = [&](int row, int output) {
    float sum = 0;
    for (int rank = 0; rank < size; ++rank) {
      const float* theirs = cluster.map_shared_rank(partial, rank);
#pragma unroll
      for (int k = 0; k < kWarpsK; ++k) sum += theirs[(k * P::kRows + row) * P::kOutputs + output];
    }
    return sum;
  };
  const int64_t half = a.weight.rows / 2;
  const int count = static_cast<int>(a.rows) * kWritten;
  for (int i = static_cast<int>(cluster.block_rank()) * kThreads + static_cast<int>(threadIdx.x); i < count;
       i += size * kThreads) {
    const int row = i / kWritten;
    const int output = i % kWritten;
    __nv_bfloat16* out = a.out + row * a.out_stride;
    if constexpr (kGated) {
      const int64_t tile = first_tile + output / 8;
      if (tile * kInt4TileRows >= a.weight.rows) continue;
      const int place = output / 8 * kInt4TileRows + output % 8;
      const float gate = total(row, place);
      out[tile * 8 + output % 8] = __float2bfloat16_rn(gate / (1.0f + __expf(-gate)) * total(row, place + 8));
    } else {
      const int64_t tile = first_tile + output / kInt4TileRows;
      if (tile * kInt4TileRows >= a.weight.rows) continue;
      const int place = output % kInt4TileRows;
      const int64_t column =
          a.weight.paired ? (place < 8 ? 0 : half) + tile * 8 + place % 8 : tile * kInt4TileRows + place;
      float value = total(row, output);
      if constexpr (kEpilogue == Int4RowsEpilogue::kAddResidual) value += __bfloat162float(out[column]);
      out[column] = __float2bfloat16_rn(value);
    }
  }
}

template <int kGroups, int kColumns, int kWarpsK, Int4RowsEpilogue kEpilogue>
__global__ void __launch_bounds__(kThreads, 2) int4_rows_kernel(Int4RowsArgs a, int cluster_size) {
  using P = Plan<kGroups, kColumns, kWarpsK>;
  extern __shared__ __align__(128) uint8_t shared[];
  const auto base = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int rank = static_cast<int>(blockIdx.x) % cluster_size;
  const int64_t first_tile = static_cast<int64_t>(blockIdx.x) / cluster_size * P::kTiles;
  const int windows = static_cast<int>(a.weight.columns) / kInt4WindowColumns;
  const int all_steps = (windows + kWarpsK - 1) / kWarpsK;
  const int begin = all_steps * rank / cluster_size;
  const int steps = all_steps * (rank + 1) / cluster_size - begin;
  WarpWork work;
  work.tile = first_tile + warp / kWarpsK;
  work.first = begin * kWarpsK + warp % kWarpsK;
  work.steps = steps;
  work.has_tile = work.tile * kInt4TileRows < a.weight.rows;

  // Weights do not depend on the kernel before this one: they are on their way when it ends.
#pragma unroll
  for (int s = 0; s < P::kStages - 1; ++s)
    request_weights<P, kWarpsK>(a, work, s, base + static_cast<uint32_t>(s * P::kStageBytes));
  // Rows of x beyond the batch are zeros, in every stage, for good.
  for (int s = 0; s < P::kStages; ++s) {
    uint8_t* x = shared + s * P::kStageBytes + kWarps * P::kWindowBytes;
    for (int i = static_cast<int>(a.rows) * P::kXStride / 16 + static_cast<int>(threadIdx.x);
         i < P::kRows * P::kXStride / 16; i += kThreads)
      reinterpret_cast<uint4*>(x)[i] = {0, 0, 0, 0};
  }
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
#pragma unroll
  for (int s = 0; s < P::kStages - 1; ++s) {
    request_x<P, kWarpsK>(a, begin * kWarpsK, s, steps, base + static_cast<uint32_t>(s * P::kStageBytes));
    asm volatile("cp.async.commit_group;" ::: "memory");
  }

  float sums[kColumns][4] = {};
  for (int step = 0; step < steps; ++step) {
    asm volatile("cp.async.wait_group %0;" ::"n"(P::kStages - 2) : "memory");
    __syncthreads();
    const int ahead = step + P::kStages - 1;
    const uint32_t stage = base + static_cast<uint32_t>(ahead % P::kStages * P::kStageBytes);
    request_weights<P, kWarpsK>(a, work, ahead, stage);
    request_x<P, kWarpsK>(a, begin * kWarpsK, ahead, steps, stage);
    asm volatile("cp.async.commit_group;" ::: "memory");
    const uint8_t* now = shared + step % P::kStages * P::kStageBytes;
    if (work.has_tile && work.first + step * kWarpsK < windows) {
      multiply_window<kGroups, kColumns, P::kXStride>(
          sums, now + warp * P::kWindowBytes,
          now + kWarps * P::kWindowBytes + warp % kWarpsK * kXWindowBytes);
    }
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  __syncthreads();
  auto* partial = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int row = n * 8 + lane % 4 * 2 + e % 2;
      const int output = warp / kWarpsK * kInt4TileRows + lane / 4 + e / 2 * 8;
      partial[(warp % kWarpsK * P::kRows + row) * P::kOutputs + output] = sums[n][e];
    }
  }
  cg::this_cluster().sync();
  finish<P, kWarpsK, kEpilogue>(a, partial, first_tile);
  cg::this_cluster().sync();  // others may still read this block's
}

int multiprocessors() {
  int device = 0;
  int count = 0;
  CRIBLE_CUDA_CHECK(cudaGetDevice(&device));
  CRIBLE_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

// visit(plan, kernel)
template <Int4RowsEpilogue kEpilogue, int kGroups, typename Visit>
void for_rows(int64_t rows, Visit&& visit) {
  if (rows <= 16) return visit(Plan<kGroups, 2, 2>(), &int4_rows_kernel<kGroups, 2, 2, kEpilogue>);
  if (rows <= 32) return visit(Plan<kGroups, 4, 2>(), &int4_rows_kernel<kGroups, 4, 2, kEpilogue>);
  visit(Plan<kGroups, 8, 1>(), &int4_rows_kernel<kGroups, 8, 1, kEpilogue>);
}
template <Int4RowsEpilogue kEpilogue, typename Visit>
void for_group(int group, int64_t rows, Visit&& visit) {
  if (group == 128) return for_rows<kEpilogue, 1>(rows, visit);
  if (group == 64) return for_rows<kEpilogue, 2>(rows, visit);
  for_rows<kEpilogue, 4>(rows, visit);
}
template <typename Visit>
void for_kernel(Int4RowsEpilogue epilogue, int group, int64_t rows, Visit&& visit) {
  using E = Int4RowsEpilogue;
  switch (epilogue) {
    case E::kStore: return for_group<E::kStore>(group, rows, visit);
    case E::kAddResidual: return for_group<E::kAddResidual>(group, rows, visit);
    case E::kSiluMul: return for_group<E::kSiluMul>(group, rows, visit);
  }
}

}  // namespace

void prepare_int4_rows() {
  for (const auto epilogue :
       {Int4RowsEpilogue::kStore, Int4RowsEpilogue::kAddResidual, Int4RowsEpilogue::kSiluMul}) {
    for (const int group : {32, 64, 128}) {
      for (const int64_t rows : {16, 32, 64}) {
        for_kernel(epilogue, group, rows,
                   [](auto plan, auto* kernel) { allow_shared_bytes(kernel, decltype(plan)::kSharedBytes); });
      }
    }
  }
}

void int4_rows(const CudaStream& stream, Int4RowsEpilogue epilogue, const Int4RowsArgs& args) {
  const Int4Matrix& w = args.weight;
  CHECK(args.rows >= 1 && args.rows <= kMaxInt4Rows && int4_fits(w.rows, w.columns, w.group) &&
            (epilogue != Int4RowsEpilogue::kSiluMul || w.paired),
        "{} rows of 4-bit {} x {}", args.rows, w.rows, w.columns);
  // The kernels for fewer rows add up in another order.
  for_kernel(epilogue, w.group, args.same_bits ? kMaxInt4Rows : args.rows, [&](auto plan, auto* kernel) {
    using P = decltype(plan);
    const int64_t tiles = w.rows / kInt4TileRows;
    const int64_t blocks = (tiles + P::kTiles - 1) / P::kTiles;
    // Two blocks fit on a multiprocessor.
    int cluster = 1;
    while (cluster < 8 && blocks * cluster * 2 <= 2 * multiprocessors()) cluster *= 2;
    launch(stream.get(),
           {.grid = dim3(static_cast<unsigned>(blocks * cluster)),
            .block = dim3(kThreads),
            .shared_bytes = P::kSharedBytes,
            .cluster = static_cast<unsigned>(cluster),
            .dependent = true},
           kernel, args, cluster);
  });
}

}  // namespace crible::cuda
