// One layer's feed-forward as a mixture of experts on the GPU: norm, router, the chosen experts' gated
// feed-forward, and their weighted sum into the residual stream; as model/expert_block.h does it on the CPU.
// Owns the working memory, made for the largest step and used by all layers. Enqueues only. Used by one
// thread.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "model/cuda/decoder_weights.h"
#include "ops/matmul/matmul_cuda.h"
#include "ops/moe/moe_cuda.h"

namespace crible::cuda {

class ExpertMixture {
 public:
  ExpertMixture() = default;
  // Chooses the router's product in `matmul`, with the first layer's weights.
  static Result<ExpertMixture> create(const CudaStream& stream, const DecoderWeights& weights,
                                      int64_t max_tokens, Matmul& matmul);
  static int64_t bytes_for(const DecoderShape& shape, int64_t max_tokens);

  // Whether the steps before the products are best one kernel: enqueue_few(). With eight tokens it is slower
  // than several (12.0 against 11.2 ms a step of Qwen3-30B-A3B).
  bool few_fit(int64_t tokens) const {
    constexpr int64_t kFew = 4;
    return tokens <= kFew && choose_experts_fits(shape_.expert_sizes(), tokens);
  }
  // sums [tokens, embedding] += experts(norm(residual)); sums may be the residual.
  void enqueue_few(const CudaStream& stream, const DecoderLayer& layer, int64_t tokens,
                   const __nv_bfloat16* residual, __nv_bfloat16* sums) const;
  Status forward(const CudaStream& stream, const Matmul& matmul, const DecoderLayer& layer, int64_t tokens,
                 const __nv_bfloat16* residual, __nv_bfloat16* sums) const;

 private:
  struct Room {
    __nv_bfloat16* normed;  // [tokens, embedding]
    uint8_t* quantised;     // [tokens, embedding], FP8 weights only
    float* scales;          // [tokens]
    float* logits;          // [tokens, experts]
    ExpertRoom experts;
  };
  static Room lay_out(DeviceArena& arena, const DecoderShape& shape, int64_t max_tokens);
  MatmulArgs router(const DecoderLayer& layer, int64_t tokens) const;
  void multiply(const CudaStream& stream, const DecoderLayer& layer, int64_t tokens, __nv_bfloat16* sums,
                bool grouped) const;

  DecoderShape shape_;
  DeviceBuffer buffer_;
  Room room_ = {};
};

}  // namespace crible::cuda
