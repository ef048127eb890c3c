#include "device/cuda/launch.h"
#include "ops/attention/kv_element.cuh"
#include "ops/kv_write/kv_write_cuda.h"
#include "ops/rope/rope_rotate.cuh"

namespace crible::cuda {
namespace {

constexpr int kThreads = 128;

// A group of kHeadSize / 8 lanes takes one head of one token.
template <int kHeadSize, KvType kType>
__global__ void __launch_bounds__(kThreads) kv_write_kernel(KvWriteArgs a) {
  using Element = KvElement<kType>;
  constexpr int kLanes = kHeadSize / kVector;
  // Attention may begin to read what earlier steps left.
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
  const int64_t token = blockIdx.x;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int heads = static_cast<int>(a.shape.heads);
  const int kv_heads = static_cast<int>(a.shape.kv_heads);
  const int all = heads + 2 * kv_heads;
  const int position = a.positions[token];
  const int64_t slot = a.slots[token];
  const int64_t block = slot / a.shape.block_size;
  const int64_t offset = slot % a.shape.block_size;
  // Whole warps go round together: the rotation exchanges values between lanes.
  const int rounds = (all * kLanes + kThreads - 1) / kThreads;
  for (int round = 0; round < rounds; ++round) {
    const int head = round * (kThreads / kLanes) + static_cast<int>(threadIdx.x) / kLanes;
    const bool present = head < all;
    __nv_bfloat16* place = a.qkv + (token * all + (present ? head : 0)) * kHeadSize + lane * kVector;
    float x[kVector];
    to_floats(load_vector(place), x);
    if (a.bias != nullptr) {
      float bias[kVector];
      to_floats(load_vector(a.bias + (present ? head : 0) * kHeadSize + lane * kVector), bias);
#pragma unroll
      for (int j = 0; j < kVector; ++j) x[j] += bias[j];
    }
    const bool is_q = head < heads;
    const bool is_k = !is_q && head < heads + kv_heads;
    const __nv_bfloat16* norm = is_q ? a.q_norm : a.k_norm;
    if (a.q_norm != nullptr) {
      float normed[kVector];
#pragma unroll
      for (int j = 0; j < kVector; ++j) normed[j] = x[j];
      head_norm<kHeadSize>(normed, lane, norm, a.epsilon);
#pragma unroll
      for (int j = 0; j < kVector; ++j) x[j] = is_q || is_k ? normed[j] : x[j];
    }
    float turned[kVector];
#pragma unroll
    for (int j = 0; j < kVector; ++j) turned[j] = x[j];
    rotate<kHeadSize>(turned, lane, a.rope, position);
    if (!present) continue;
    if (is_q) {
      store_vector(place, to_vector(turned));
    } else if (slot >= 0) {
      const int kv_head = (head - heads) % kv_heads;
      auto* cache = static_cast<typename Element::Type*>(is_k ? a.cache.k : a.cache.v) +
                    block * a.cache.block_stride + (kv_head * a.shape.block_size + offset) * kHeadSize +
                    lane * kVector;
      store_vector(cache,
                   is_k ? Element::encode(turned, a.cache.k_scale) : Element::encode(x, a.cache.v_scale));
    }
  }
}

}  // namespace

void kv_write(const CudaStream& stream, const KvWriteArgs& args) {
  if (args.tokens == 0) return;
  CHECK(args.shape.head_size == 64 || args.shape.head_size == 128, "head size {}", args.shape.head_size);
  CHECK((args.q_norm == nullptr) == (args.k_norm == nullptr));
  const bool wide = args.shape.head_size == 128;
  auto* kernel = wide ? &kv_write_kernel<128, KvType::kBf16> : &kv_write_kernel<64, KvType::kBf16>;
  if (args.cache.type == KvType::kFp8)
    kernel = wide ? &kv_write_kernel<128, KvType::kFp8> : &kv_write_kernel<64, KvType::kFp8>;
  launch(stream.get(),
         {.grid = dim3(static_cast<unsigned>(args.tokens)), .block = dim3(kThreads), .dependent = true},
         kernel, args);
}

}  // namespace crible::cuda
