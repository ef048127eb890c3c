#include <cooperative_groups.h>

#include "device/cuda/launch.h"
#include "ops/fp8_vector.cuh"
#include "ops/moe/moe_kernels_cuda.h"
#include "ops/moe/row_choice.cuh"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kCluster = 16;
constexpr int kMaxRows = 8;          // a warp of the first block chooses for each
constexpr int kExpertsAtMost = 256;  // two per warp of the cluster
constexpr float kLargestFp8 = 448.0f;

// Of the first block: what the others send, and the grouping.
struct Choosing {
  float logits[kMaxRows][kExpertsAtMost];
  int counts[kExpertsAtMost];
  int begin[kExpertsAtMost];  // first place of each expert
  int warp_slots[kWarps];
  int warp_active[kWarps];
};

// norm(row) to shared memory as BF16, and by the block whose rank is the row to memory. A warp per row.
__device__ void norm_row(const ChooseArgs& a, int row, bool owner, __nv_bfloat16* shared) {
  const int columns = static_cast<int>(a.sizes.columns);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const __nv_bfloat16* x = a.residual + static_cast<int64_t>(row) * columns;
  float sum = 0;
  for (int c = lane * kVector; c < columns; c += 32 * kVector) {
    const Bf16Vector raw = load_vector(x + c);
    store_vector(shared + c, raw);
    float v[kVector];
    to_floats(raw, v);
#pragma unroll
    for (int j = 0; j < kVector; ++j) sum += v[j] * v[j];
  }
  const float scale = rsqrtf(lane_sum<32>(sum) / static_cast<float>(columns) + a.epsilon);
  float largest = 0;
  for (int c = lane * kVector; c < columns; c += 32 * kVector) {
    float v[kVector];
    float w[kVector];
    to_floats(load_vector(shared + c), v);
    to_floats(load_vector(a.norm_weight + c), w);
#pragma unroll
    for (int j = 0; j < kVector; ++j) v[j] *= scale * w[j];
    const Bf16Vector rounded = to_vector(v);
    store_vector(shared + c, rounded);
    to_floats(rounded, v);
#pragma unroll
    for (int j = 0; j < kVector; ++j) largest = fmaxf(largest, fabsf(v[j]));
    if (owner && a.quantised == nullptr)
      store_vector(a.normed + static_cast<int64_t>(row) * columns + c, rounded);
  }
  if (!owner || a.quantised == nullptr) return;
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2)
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, offset));
  const float fp8_scale = largest > 0 ? largest / kLargestFp8 : 1.0f;
  if (lane == 0) a.scales[row] = fp8_scale;
  for (int c = lane * kVector; c < columns; c += 32 * kVector) {
    float v[kVector];
    to_floats(load_vector(shared + c), v);
    store_vector(a.quantised + static_cast<int64_t>(row) * columns + c, to_fp8_vector(v, fp8_scale));
  }
}

// Sum of the values of the lower threads of the block, and of all of them. totals: kWarps ints.
__device__ inline int sum_before(int value, int* totals, int* all) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  int sum = value;
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(~0u, sum, offset);
    if (lane >= offset) sum += other;
  }
  if (lane == 31) totals[threadIdx.x / 32] = sum;
  __syncthreads();
  *all = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w < static_cast<int>(threadIdx.x) / 32) sum += totals[w];
    *all += totals[w];
  }
  return sum - value;
}

// The first block, once it has all logits. Up to eight rows make at most eight slots per expert: one tile.
__device__ void choose_and_group(const ChooseArgs& a, Choosing& s, const ExpertRoom& room) {
  constexpr int kPerLane = kExpertsAtMost / 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int experts = static_cast<int>(a.sizes.experts);
  const int k = static_cast<int>(a.sizes.experts_per_token);
  const bool chooses = warp < a.rows;
  RowChoice choice;
  int rank = 0;
  if (chooses) {
    float own[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
      own[i] = i * 32 + lane < experts ? s.logits[warp][i * 32 + lane] : -INFINITY;
    choice = choose_experts_of_row<kPerLane>(own, experts, k, a.normalise);
    if (lane < k) rank = atomicAdd(&s.counts[choice.expert], 1);
  }
  __syncthreads();
  const int expert = static_cast<int>(threadIdx.x);
  const int count = s.counts[expert];
  int slots = 0;
  int active = 0;
  const int first = sum_before(count, s.warp_slots, &slots);
  const int tile = sum_before(count > 0 ? 1 : 0, s.warp_active, &active);
  s.begin[expert] = first;
  if (count > 0) {
    room.tile_expert[tile] = expert;
    room.tile_begin[tile] = first;
    room.tile_end[tile] = first + count;
  }
  if (expert == 0) *room.tile_count = active;
  __syncthreads();
  if (!chooses || lane >= k) return;
  const int slot = warp * k + lane;
  const int place = s.begin[choice.expert] + rank;
  room.chosen[slot] = choice.expert;
  room.weights[slot] = choice.weight;
  room.places[slot] = place;
  room.rows[place] = warp;
}

// kVectors: of a router's row that each lane holds.
template <int kVectors>
__global__ void __launch_bounds__(kThreads) choose_kernel(ChooseArgs a, ExpertRoom room) {
  static_assert(kExpertsAtMost == kThreads);
  extern __shared__ __align__(16) uint8_t memory[];
  auto* normed = reinterpret_cast<__nv_bfloat16*>(memory);  // [rows, columns]
  __shared__ Choosing choosing;
  const cooperative_groups::cluster_group cluster = cooperative_groups::this_cluster();
  cudaTriggerProgrammaticLaunchCompletion();
  auto begun = cluster.barrier_arrive();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int rank = static_cast<int>(cluster.block_rank());
  const int experts = static_cast<int>(a.sizes.experts);
  const int columns = static_cast<int>(a.sizes.columns);
  choosing.counts[threadIdx.x] = 0;
  const int expert = rank * kWarps + warp;
  Bf16Vector router[kVectors];
  const auto load_router = [&](int e) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      const int c = (i * 32 + lane) * kVector;
      router[i] = e < experts && c < columns ? load_vector(a.router + static_cast<int64_t>(e) * columns + c)
                                             : to_vector({0, 0, 0, 0, 0, 0, 0, 0});
    }
  };
  load_router(expert);
  cudaGridDependencySynchronize();
  if (warp < a.rows) norm_row(a, warp, rank == warp, normed + warp * columns);
  __syncthreads();
  cluster.barrier_wait(std::move(begun));
  Choosing* first = cluster.map_shared_rank(&choosing, 0);
  for (int e = expert; e < experts; e += kCluster * kWarps) {
    if (e != expert) load_router(e);
    for (int r = 0; r < a.rows; ++r) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        const int c = (i * 32 + lane) * kVector;
        if (c >= columns) break;
        float x[kVector];
        float w[kVector];
        to_floats(load_vector(normed + r * columns + c), x);
        to_floats(router[i], w);
#pragma unroll
        for (int j = 0; j < kVector; ++j) sum += x[j] * w[j];
      }
      sum = lane_sum<32>(sum);
      if (lane == 0) first->logits[r][e] = sum;
    }
  }
  cluster.sync();
  if (rank == 0) choose_and_group(a, choosing, room);
}

constexpr int64_t kNarrowColumns = 8 * 32 * kVector;
constexpr int64_t kWideColumns = 16 * 32 * kVector;

}  // namespace

bool choose_experts_fits(const ExpertSizes& s, int64_t rows) {
  return rows >= 1 && rows <= kMaxRows && s.experts <= kExpertsAtMost && s.columns <= kWideColumns;
}

void prepare_choose_experts() {
  const auto prepare = [](auto* kernel, int64_t columns) {
    allow_shared_bytes(kernel, static_cast<size_t>(kMaxRows * columns) * sizeof(__nv_bfloat16));
    CRIBLE_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                           cudaFuncAttributeNonPortableClusterSizeAllowed, 1));
  };
  prepare(&choose_kernel<8>, kNarrowColumns);
  prepare(&choose_kernel<16>, kWideColumns);
}

void choose_experts(const CudaStream& stream, const ChooseArgs& args, const ExpertRoom& room) {
  CHECK(choose_experts_fits(args.sizes, args.rows), "{} rows, {} experts of {}", args.rows,
        args.sizes.experts, args.sizes.columns);
  launch(stream.get(),
         {.grid = dim3(kCluster),
          .block = dim3(kThreads),
          .shared_bytes = static_cast<size_t>(args.rows * args.sizes.columns) * sizeof(__nv_bfloat16),
          .cluster = kCluster,
          .dependent = true},
         args.sizes.columns <= kNarrowColumns ? &choose_kernel<8> : &choose_kernel<16>, args, room);
}

}  // namespace crible::cuda
