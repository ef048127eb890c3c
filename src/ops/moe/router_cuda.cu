// The router's choice, the grouping of slots and the weighted sum: small kernels around the products.
#include "base/units.h"
#include "device/cuda/launch.h"
#include "ops/moe/moe_kernels_cuda.h"
#include "ops/moe/row_choice.cuh"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

// A warp per row. Lane l holds the experts l, l + 32, ...
template <int kPerLane>
__global__ void __launch_bounds__(kThreads)
    route_kernel(const float* logits, int rows, int experts, int k, bool normalise, ExpertRoom room) {
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int row = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  float own[kPerLane];
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) {
    const int expert = i * 32 + lane;
    own[i] = expert < experts ? logits[static_cast<int64_t>(row) * experts + expert] : -INFINITY;
  }
  const RowChoice choice = choose_experts_of_row<kPerLane>(own, experts, k, normalise);
  if (lane >= k) return;
  const int slot = row * k + lane;
  room.chosen[slot] = choice.expert;
  room.weights[slot] = choice.weight;
  room.ranks[slot] = atomicAdd(room.counts + choice.expert, 1);
}

// Every block adds up the counts for itself; the first writes the tiles.
__global__ void __launch_bounds__(kMaxExperts)
    group_kernel(int experts, int k, int slots, int tile_slots, ExpertRoom room) {
  __shared__ int begin[kMaxExperts];
  __shared__ int tiles[kMaxExperts];
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int e = static_cast<int>(threadIdx.x);
  const int count = e < experts ? room.counts[e] : 0;
  begin[e] = count;
  tiles[e] = (count + tile_slots - 1) / tile_slots;
  __syncthreads();
  // Inclusive sums by doubling.
  for (int step = 1; step < kMaxExperts; step *= 2) {
    const int add = e >= step ? begin[e - step] : 0;
    const int add_tiles = e >= step ? tiles[e - step] : 0;
    __syncthreads();
    begin[e] += add;
    tiles[e] += add_tiles;
    __syncthreads();
  }
  if (blockIdx.x == 0) {
    const int own = (count + tile_slots - 1) / tile_slots;
    const int first = begin[e] - count;
    for (int t = 0; t < own; ++t) {
      const int tile = tiles[e] - own + t;
      room.tile_expert[tile] = e;
      room.tile_begin[tile] = first + t * tile_slots;
      room.tile_end[tile] = min(first + count, first + (t + 1) * tile_slots);
    }
    if (e == kMaxExperts - 1) *room.tile_count = tiles[e];
  }
  const int slot = static_cast<int>(blockIdx.x) * kMaxExperts + e;
  if (slot >= slots) return;
  const int expert = room.chosen[slot];
  const int place = (expert == 0 ? 0 : begin[expert - 1]) + room.ranks[slot];
  room.places[slot] = place;
  room.rows[place] = slot / k;
}

__global__ void __launch_bounds__(kThreads)
    add_kernel(int columns, int k, ExpertRoom room, __nv_bfloat16* residual) {
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t row = blockIdx.y;
  const int column = (static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x)) * kVector;
  if (column >= columns) return;
  float sum[kVector] = {};
  for (int j = 0; j < k; ++j) {
    const int64_t slot = row * k + j;
    const float weight = room.weights[slot];
    float y[kVector];
    to_floats(load_vector(room.out + room.places[slot] * static_cast<int64_t>(columns) + column), y);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] += weight * y[i];
  }
  __nv_bfloat16* place = residual + row * columns + column;
  float x[kVector];
  to_floats(load_vector(place), x);
#pragma unroll
  for (int i = 0; i < kVector; ++i) x[i] += sum[i];
  store_vector(place, to_vector(x));
}

}  // namespace

Status experts_fit(const ExpertSizes& s) {
  if (s.experts < 1 || s.experts > kMaxExperts || s.experts_per_token < 1 ||
      s.experts_per_token > std::min<int64_t>(kMaxExpertsPerToken, s.experts)) {
    return fail(ErrorCode::kUnsupported, "{} of {} experts per token: the GPU has up to {} of {}",
                s.experts_per_token, s.experts, kMaxExpertsPerToken, kMaxExperts);
  }
  if (s.columns % 256 != 0 || s.hidden % 128 != 0) {
    return fail(ErrorCode::kUnsupported,
                "experts of {} x {}: on the GPU they must be multiples of 128 and of 256", s.hidden,
                s.columns);
  }
  return {};
}

int64_t most_expert_tiles(int64_t slots, int64_t experts, int tile_slots) {
  return std::min(slots, slots / tile_slots + std::min(slots, experts));
}

void route_to_experts(const CudaStream& stream, const ExpertSizes& s, const float* logits, int64_t rows,
                      bool normalise, const ExpertRoom& room) {
  if (rows == 0) return;
  CHECK(experts_fit(s), "{} of {} experts", s.experts_per_token, s.experts);
  auto* kernel = &route_kernel<kMaxExperts / 32>;
  if (s.experts <= 64) {
    kernel = &route_kernel<2>;
  } else if (s.experts <= 128) {
    kernel = &route_kernel<4>;
  }
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>(ceil_div(rows, kWarps))),
          .block = dim3(kThreads),
          .dependent = true},
         kernel, logits, static_cast<int>(rows), static_cast<int>(s.experts),
         static_cast<int>(s.experts_per_token), normalise, room);
}

void group_slots(const CudaStream& stream, const ExpertSizes& s, int64_t rows, int tile_slots,
                 const ExpertRoom& room) {
  const int64_t slots = rows * s.experts_per_token;
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>(ceil_div(slots, kMaxExperts))),
          .block = dim3(kMaxExperts),
          .dependent = true},
         &group_kernel, static_cast<int>(s.experts), static_cast<int>(s.experts_per_token),
         static_cast<int>(slots), tile_slots, room);
}

void add_expert_outputs(const CudaStream& stream, const ExpertSizes& s, int64_t rows, const ExpertRoom& room,
                        __nv_bfloat16* residual) {
  const int64_t vectors = s.columns / kVector;
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>(ceil_div(vectors, kThreads)), static_cast<unsigned>(rows)),
          .block = dim3(kThreads),
          .dependent = true},
         &add_kernel, static_cast<int>(s.columns), static_cast<int>(s.experts_per_token), room, residual);
}

}  // namespace crible::cuda
