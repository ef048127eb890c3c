// The products of a mixture of experts: each tile of slots with a stretch of its expert's weight rows. The
// weights are the first operand of wgmma and the slots its columns, so that a tile of eight slots wastes
// little; blocks of 256 threads are two warpgroups of 64 or 128 weight rows each. Both operands go through a
// ring of stages in shared memory by asynchronous copies, which also gather the slots' rows of x. A column's
// sum takes the same steps of K whatever the number of columns: the tile's size does not change a slot's
// bits.
#include "device/cuda/launch.h"
#include "device/cuda/wgmma.cuh"
#include "ops/bf16_vector.cuh"
#include "ops/moe/moe_kernels_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStepBytes = 128;  // of a row, in a stage
constexpr int kChunks = kStepBytes / 16;
constexpr int kLoadRows = kThreads / kChunks;  // rows that the block copies at once
constexpr int kAlignment = 1024;               // of an operand of wgmma

// Sizes of one instantiation.
template <WeightType kWeightType, bool kGatedProduct, int kTileSlots>
struct Shape {
  static constexpr WeightType kType = kWeightType;
  static constexpr bool kGated = kGatedProduct;
  static constexpr int kSlots = kTileSlots;
  static constexpr int kBytes = kType == WeightType::kBf16 ? 2 : 1;
  static constexpr WgmmaType kWgmma = kType == WeightType::kBf16 ? WgmmaType::kBf16 : WgmmaType::kFp8;
  static constexpr int kParts = kSlots == 128 ? 2 : 1;  // of 64 weight rows, for a warpgroup
  static constexpr int kRows = 2 * 64 * kParts;         // weight rows of a block
  static constexpr int kOutputs = kGated ? kRows / 2 : kRows;
  static constexpr int kStages = kSlots == 128 ? 4 : kSlots == 32 ? 5 : 6;
  static constexpr int kAhead = kStages - 2;  // stages requested before their turn
  static constexpr int kWeightBytes = kRows * kStepBytes;
  static constexpr int kStageBytes = kWeightBytes + kSlots * kStepBytes;
  static constexpr int kOutStride =
      kOutputs + kVector;  // elements between slots of the result in shared memory
  static constexpr int kSharedBytes = kStages * kStageBytes + kAlignment;
  static_assert(kSlots * kOutStride * 2 <= kStages * kStageBytes);
};

__device__ inline void copy_async(uint32_t shared, const uint8_t* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// A tile of slots as the grouping kernel wrote it. Read past the first-level cache: the kernel may have begun
// before the one in between ended.
struct Tile {
  int expert, begin, count;

  __device__ static Tile load(const ExpertProduct& p, int index) {
    const int begin = __ldcg(p.tile_begin + index);
    return {__ldcg(p.tile_expert + index), begin, __ldcg(p.tile_end + index) - begin};
  }
};

// The weight row, of one expert, that lies in row r of a block's stage. Gated: eight rows of gate and the
// eight of up that they meet take turns, which puts both into the same thread's registers.
template <typename S>
__device__ inline int64_t weight_row(const ExpertProduct& p, int r) {
  const int first = static_cast<int>(blockIdx.x) * S::kOutputs;
  if constexpr (S::kGated) {
    return (r % 16 < 8 ? 0 : p.weight_rows / 2) + first + r / 16 * 8 + r % 8;
  } else {
    return first + r;
  }
}

// A thread's copies of each stage: the same chunk of every kLoadRows-th row of both operands.
template <typename S>
struct Loader {
  static constexpr int kWeightCopies = S::kRows / kLoadRows;
  static constexpr int kSlotCopies = (S::kSlots + kLoadRows - 1) / kLoadRows;
  const uint8_t* weights;
  int64_t weight_stride;  // between a thread's rows
  const uint8_t* slots[kSlotCopies];
  uint32_t shared;
  int row, chunk;

  __device__ void aim_weights(const ExpertProduct& p, const Tile& tile, uint32_t ring) {
    row = static_cast<int>(threadIdx.x) / kChunks;
    chunk = static_cast<int>(threadIdx.x) % kChunks;
    shared = ring;
    const int64_t row_bytes = static_cast<int64_t>(p.in_features) * S::kBytes;
    weight_stride = (weight_row<S>(p, row + kLoadRows) - weight_row<S>(p, row)) * row_bytes;
    weights = static_cast<const uint8_t*>(p.weight) +
              (static_cast<int64_t>(tile.expert) * p.weight_rows + weight_row<S>(p, row)) * row_bytes +
              chunk * 16;
  }
  // Slots that the tile does not have read its last one's row; nobody reads their results.
  __device__ void aim_slots(const ExpertProduct& p, const Tile& tile) {
    const int64_t row_bytes = static_cast<int64_t>(p.in_features) * S::kBytes;
#pragma unroll
    for (int i = 0; i < kSlotCopies; ++i) {
      const int place = tile.begin + min(row + i * kLoadRows, tile.count - 1);
      const int64_t x_row = p.rows == nullptr ? place : __ldcg(p.rows + place);
      slots[i] = static_cast<const uint8_t*>(p.x) + x_row * row_bytes + chunk * 16;
    }
  }
  __device__ void request_weights(int step) const {
    const uint32_t stage = shared + step % S::kStages * S::kStageBytes;
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i) {
      copy_async(stage + swizzled_place(row + i * kLoadRows, chunk),
                 weights + i * weight_stride + static_cast<int64_t>(step) * kStepBytes);
    }
  }
  __device__ void request_slots(int step) const {
    const uint32_t stage = shared + step % S::kStages * S::kStageBytes + S::kWeightBytes;
#pragma unroll
    for (int i = 0; i < kSlotCopies; ++i) {
      if (S::kSlots < kLoadRows && row >= S::kSlots) break;
      copy_async(stage + swizzled_place(row + i * kLoadRows, chunk),
                 slots[i] + static_cast<int64_t>(step) * kStepBytes);
    }
  }
};

template <typename S>
struct Sums {
  float part[S::kParts][S::kSlots / 2];
};

template <typename S>
__device__ inline void multiply_stage(Sums<S>& sums, uint32_t stage) {
  constexpr int kInstructionBytes = 32;
  const uint32_t own = stage + static_cast<uint32_t>(threadIdx.x) / 128 * (S::kParts * 64 * kStepBytes);
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < kStepBytes / kInstructionBytes; ++k) {
    const uint64_t slots = wgmma_operand(stage + S::kWeightBytes + k * kInstructionBytes);
#pragma unroll
    for (int part = 0; part < S::kParts; ++part) {
      wgmma<S::kSlots, S::kWgmma>(sums.part[part],
                                  wgmma_operand(own + part * 64 * kStepBytes + k * kInstructionBytes), slots);
    }
  }
  wgmma_commit();
}

__device__ inline float silu_mul(float gate, float up) {
  return gate / (1.0f + __expf(-gate)) * up;
}

// The results of this thread to shared memory, [slots][outputs].
template <typename S>
__device__ inline void store_results(const ExpertProduct& p, const Tile& tile, const Sums<S>& sums,
                                     const float* slot_scale, __nv_bfloat16* out) {
  const int thread = static_cast<int>(threadIdx.x);
  const int g = thread % 32 / 4;
  const int q = thread % 4;
#pragma unroll
  for (int part = 0; part < S::kParts; ++part) {
    const int row = (thread / 128 * S::kParts + part) * 64 + thread % 128 / 32 * 16 + g;  // of the stage
    float low_scale = 1;
    float high_scale = 1;
    if constexpr (S::kType == WeightType::kFp8) {
      const float* scale = p.weight_scale + static_cast<int64_t>(tile.expert) * p.weight_rows;
      low_scale = scale[weight_row<S>(p, row)];
      high_scale = scale[weight_row<S>(p, row + 8)];
    }
#pragma unroll
    for (int i = 0; i < S::kSlots / 8; ++i) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int slot = 8 * i + 2 * q + j;
        float low = sums.part[part][4 * i + j];
        float high = sums.part[part][4 * i + 2 + j];
        if constexpr (S::kType == WeightType::kFp8) {
          low *= low_scale * slot_scale[slot];
          high *= high_scale * slot_scale[slot];
        }
        __nv_bfloat16* place = out + slot * S::kOutStride;
        if constexpr (S::kGated) {
          place[row / 16 * 8 + g] = __float2bfloat16_rn(silu_mul(low, high));
        } else {
          place[row] = __float2bfloat16_rn(low);
          place[row + 8] = __float2bfloat16_rn(high);
        }
      }
    }
  }
}

template <typename S>
__global__ void __launch_bounds__(kThreads, S::kSlots == 128 ? 1 : 2) expert_product_kernel(ExpertProduct p) {
  extern __shared__ uint8_t memory[];
  __shared__ float slot_scale[S::kSlots];
  const uint32_t unaligned = static_cast<uint32_t>(__cvta_generic_to_shared(memory));
  const uint32_t ring = (unaligned + kAlignment - 1) / kAlignment * kAlignment;
  // The first product of a layer needs what the kernel before it wrote, to know its expert; the second knows
  // it since the first one ran.
  if (S::kGated) {
    cudaGridDependencySynchronize();
    cudaTriggerProgrammaticLaunchCompletion();
    if (p.counts != nullptr && blockIdx.x == 0 && blockIdx.y == 0) {
      for (int e = static_cast<int>(threadIdx.x); e < p.experts; e += kThreads) p.counts[e] = 0;
    }
  }
  const int index = static_cast<int>(blockIdx.y);
  if (index >= __ldcg(p.tile_count)) return;
  const Tile tile = Tile::load(p, index);
  const int steps = p.in_features * S::kBytes / kStepBytes;
  Loader<S> loader;
  loader.aim_weights(p, tile, ring);
#pragma unroll
  for (int step = 0; step < S::kAhead; ++step) {
    if (step < steps) loader.request_weights(step);
  }
  if (!S::kGated) {
    cudaTriggerProgrammaticLaunchCompletion();
    cudaGridDependencySynchronize();
  }
  loader.aim_slots(p, tile);
#pragma unroll
  for (int step = 0; step < S::kAhead; ++step) {
    if (step < steps) loader.request_slots(step);
    commit_copies();
  }
  if constexpr (S::kType == WeightType::kFp8) {
    for (int i = static_cast<int>(threadIdx.x); i < S::kSlots; i += kThreads) {
      const int place = tile.begin + min(i, tile.count - 1);
      slot_scale[i] = p.x_scale[p.rows == nullptr ? place : __ldcg(p.rows + place)];
    }
  }

  Sums<S> sums = {};
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    wait_for_copies<S::kAhead - 1>();
    publish_to_wgmma();
    // All copies of this step have come, and the products of the step before the last are done.
    __syncthreads();
    multiply_stage<S>(sums, ring + step % S::kStages * S::kStageBytes);
    if (step + S::kAhead < steps) {
      loader.request_weights(step + S::kAhead);
      loader.request_slots(step + S::kAhead);
    }
    commit_copies();
    wgmma_wait<1>();
  }
  wgmma_wait<0>();
#pragma unroll
  for (int part = 0; part < S::kParts; ++part) wgmma_results(sums.part[part]);
  wait_for_copies<0>();
  __syncthreads();  // nobody reads the ring any more
  auto* out = reinterpret_cast<__nv_bfloat16*>(memory + (ring - unaligned));
  store_results<S>(p, tile, sums, slot_scale, out);
  __syncthreads();
  constexpr int kVectors = S::kOutputs / kVector;
  const int64_t out_features = p.weight_rows / (S::kGated ? 2 : 1);
  for (int i = static_cast<int>(threadIdx.x); i < tile.count * kVectors; i += kThreads) {
    const int slot = i / kVectors;
    const int column = i % kVectors * kVector;
    store_vector(
        p.out + (tile.begin + slot) * out_features + static_cast<int64_t>(blockIdx.x) * S::kOutputs + column,
        load_vector(out + slot * S::kOutStride + column));
  }
}

template <typename Visit>
void for_kernel(WeightType type, bool gated, int tile_slots, Visit&& visit) {
  const auto with_slots = [&](auto weight, auto is_gated, auto slots) {
    using S = Shape<decltype(weight)::value, decltype(is_gated)::value, decltype(slots)::value>;
    visit(&expert_product_kernel<S>, S::kOutputs, S::kSharedBytes);
  };
  const auto with_gated = [&](auto weight, auto is_gated) {
    if (tile_slots == 8) return with_slots(weight, is_gated, std::integral_constant<int, 8>());
    if (tile_slots == 32) return with_slots(weight, is_gated, std::integral_constant<int, 32>());
    with_slots(weight, is_gated, std::integral_constant<int, 128>());
  };
  const auto with_type = [&](auto weight) {
    if (gated) return with_gated(weight, std::true_type());
    with_gated(weight, std::false_type());
  };
  if (type == WeightType::kBf16) return with_type(std::integral_constant<WeightType, WeightType::kBf16>());
  with_type(std::integral_constant<WeightType, WeightType::kFp8>());
}

}  // namespace

void prepare_expert_product() {
  for (const WeightType type : {WeightType::kBf16, WeightType::kFp8}) {
    for (const bool gated : {true, false}) {
      for (const int slots : {8, 32, 128}) {
        for_kernel(type, gated, slots, [](auto* kernel, int, int shared) {
          allow_shared_bytes(kernel, static_cast<size_t>(shared));
        });
      }
    }
  }
}

void expert_product(const CudaStream& stream, WeightType type, bool gated, int tile_slots, int64_t most_tiles,
                    const ExpertProduct& product) {
  CHECK(type == WeightType::kBf16 || type == WeightType::kFp8, "experts in BF16 or FP8");
  for_kernel(type, gated, tile_slots, [&](auto* kernel, int outputs, int shared) {
    const int out_features = product.weight_rows / (gated ? 2 : 1);
    CHECK(out_features % outputs == 0 && product.in_features % 128 == 0, "experts of {} x {}", out_features,
          product.in_features);
    launch(stream.get(),
           {.grid = dim3(static_cast<unsigned>(out_features / outputs), static_cast<unsigned>(most_tiles)),
            .block = dim3(kThreads),
            .shared_bytes = static_cast<size_t>(shared),
            .dependent = true},
           kernel, product);
  });
}

}  // namespace crible::cuda
