// FlashInfer's FlashAttention-2 kernel in the shapes whose results agree bit for bit (fixed_schedule_cuda.h):
// a warp has 16 or 32 rows to itself and takes 64 keys at a time, in every tile. Compiled without contraction of
// a product and a sum into one rounding: a step of 64 keys that are all masked must multiply by exactly 1.
#pragma once

#include "ops/attention/flash2_run.cuh"

namespace crible::cuda {

template <uint32_t kHeadSize, typename Kv, uint32_t kTile>
Status flash2_launch_fixed(Flash2Params<Kv> params, cudaStream_t stream) {
  constexpr uint32_t kWarps = kTile == 16 ? 1 : 4;
  constexpr uint32_t kKeysOfStep = 64 / 16;
  using Traits = flashinfer::KernelTraits<flashinfer::MaskMode::kCausal, kTile, kTile / 16 / kWarps, kKeysOfStep,
                                          kHeadSize / 16, kHeadSize / 16, kWarps, /*NUM_WARPS_KV=*/1,
                                          flashinfer::PosEncodingMode::kNone, __nv_bfloat16, Kv, __nv_bfloat16, float,
                                          int32_t, Flash2Variant>;
  static_assert(!Traits::IsInvalid());
  auto* kernel =
      &flashinfer::BatchPrefillWithPagedKVCacheKernel</*SAME_KV_STRIDES=*/true, Traits, Flash2Params<Kv>>;
  constexpr size_t kShared = sizeof(typename Traits::SharedStoragePaged);
  CRIBLE_CUDA_RETURN_IF_ERROR(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kShared)));
  params.partition_kv = false;
  void* arguments[] = {&params};
  return status_of(cudaLaunchKernel(reinterpret_cast<const void*>(kernel),
                                    dim3(params.padded_batch_size, 1, params.paged_kv.num_heads), dim3(32, kWarps, 1),
                                    arguments, kShared, stream),
                   "attention");
}

template <uint32_t kHeadSize, typename Kv>
Status flash2_run_fixed(const RunCall& c, const Flash2Plan& p, cudaStream_t stream) {
  if (p.padded_batch_size == 0) return {};
  const Flash2Params<Kv> params = flash2_params<Kv>(c, p);
  if constexpr (sizeof(Kv) == 2) {
    if (p.cta_tile_q == 16) return flash2_launch_fixed<kHeadSize, Kv, 16>(params, stream);
  }
  if (p.cta_tile_q == 64) return flash2_launch_fixed<kHeadSize, Kv, 64>(params, stream);
  CHECK(p.cta_tile_q == 128, "a tile of {} rows", p.cta_tile_q);
  return flash2_launch_fixed<kHeadSize, Kv, 128>(params, stream);
}

}  // namespace crible::cuda
