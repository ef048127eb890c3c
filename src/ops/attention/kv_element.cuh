// What a kernel does with the elements of a KV cache of either type: how it lays eight of them down, and
// which values they then stand for.
#pragma once

#include "ops/attention/flashinfer_call.h"
#include "ops/fp8_vector.cuh"

namespace crible::cuda {

template <KvType kType>
struct KvElement;

template <>
struct KvElement<KvType::kBf16> {
  using Type = __nv_bfloat16;
  using Vector = Bf16Vector;
  __device__ static Vector encode(const float (&x)[kVector], float) { return to_vector(x); }
  __device__ static Vector zero() { return to_vector({0, 0, 0, 0, 0, 0, 0, 0}); }
};

template <>
struct KvElement<KvType::kFp8> {
  using Type = uint8_t;
  using Vector = Fp8Vector;
  __device__ static Vector encode(const float (&x)[kVector], float scale) { return to_fp8_vector(x, scale); }
  __device__ static Vector zero() { return to_fp8_vector({0, 0, 0, 0, 0, 0, 0, 0}, 1.0f); }
};

}  // namespace crible::cuda
