// The forward pass of a decoder-only transformer on the GPU, two ways over the same weights:
//   forward()       any batch: cuBLASLt matmuls, FlashInfer attention, one pass per elementwise step;
//   decode_fused()  up to eight single-token sequences: five fused kernels a layer, chained by
//                   programmatic dependent launch (ops/decode_linear, ops/decode_attention).
// Owns the working memory, made for the largest step; allocates nothing afterwards. Both only enqueue and may
// be captured into a graph. Used by one thread.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "model/cuda/decoder_weights.h"
#include "model/cuda/expert_mixture.h"
#include "model/cuda/kv_pool.h"
#include "model/cuda/matrix_products.h"
#include "model/cuda/step_batch.h"
#include "ops/attention/attention_cuda.h"
#include "ops/decode_linear/decode_linear_cuda.h"
#include "ops/matmul/matmul_cuda.h"
#include "ops/rope/rope_table_cuda.h"

namespace crible::cuda {

// How many bytes of weights per block each kind of fused kernel prefetches, and how attention is split; found
// by measurement (crible_gpu --sweep).
struct FusedSchedule {
  int qkv_prefetch = 32 * 1024;
  int output_prefetch = 32 * 1024;
  int gate_up_prefetch = 32 * 1024;
  int down_prefetch = 32 * 1024;
  int head_prefetch = 32 * 1024;
  int attention_cluster = 0;  // 0: by the number of rows
};

struct DecoderOptions {
  KvType kv_type = KvType::kBf16;
  // A row's results depend on its own sequence alone, bit for bit: no fused path, one order of every sum.
  bool deterministic = false;
};

class Decoder {
 public:
  // The weights must outlive the decoder. Measures matmul algorithms: takes a second or two. tuned: the choices() of a
  // decoder of the same shape on a GPU of the same kind, which are taken instead: so that ranks compute alike, and that
  // a change of the configuration measures nothing again.
  static Result<Decoder> create(const CudaStream& stream, const DecoderWeights& weights,
                                const RopeTable& rope, const StepLimits& limits,
                                const DecoderOptions& options = {}, const MatmulChoices& tuned = {});
  static int64_t arena_bytes(const DecoderShape& shape, const StepLimits& limits, WeightFormat format = {});
  // What attention needs beside the arena; the matmuls need Matmul::workspace_bytes() more.
  static int64_t attention_bytes(const DecoderShape& shape, const StepLimits& limits,
                                 const DecoderOptions& options = {});

  MatmulChoices choices() const { return products_.matmul().choices(); }

  // Once before forward(), with the step's host arrays: the schedule of attention. graph:
  // StepBatch::plan_input.
  Status plan(const CudaStream& stream, const AttentionPlanInput& input) {
    return attention_.plan(stream, input);
  }
  // logits: [step.num_logit_rows, head_rows()] float32.
  Status forward(const CudaStream& stream, const DeviceStep& step, const KvPool& cache, float* logits);

  bool fused_fits(int64_t rows) const;
  // Every sequence has one token and wants its logits. Needs no plan.
  Status decode_fused(const CudaStream& stream, const DeviceStep& step, const KvPool& cache, float* logits);
  // One part of either (tensor_parallel/step_schedule.h). One of several ranks leaves after each part but the last its
  // summand of what the residual grows by in sums(), which the ranks' sum replaces before the next part.
  Status enqueue_part(const CudaStream& stream, const DeviceStep& step, const KvPool& cache, float* logits,
                      int64_t part, bool fused);
  // [step.num_tokens, embedding]
  __nv_bfloat16* sums() const { return shape().ranks > 1 ? a_.normed : a_.residual; }
  FusedSchedule& fused_schedule() { return fused_; }

  const DecoderShape& shape() const { return weights_->shape(); }
  const DecoderOptions& options() const { return options_; }

 private:
  // Named slices of the arena. Attention's and the feed-forward block's share their place.
  struct Activations {
    __nv_bfloat16* residual;    // [tokens, embedding]
    __nv_bfloat16* normed;      // [tokens, embedding]
    __nv_bfloat16* head_input;  // [logit rows, embedding]
    __nv_bfloat16* qkv;         // [tokens, qkv_size]
    __nv_bfloat16* attention;   // [tokens, query_size]
    __nv_bfloat16* gate_up;     // [tokens, 2 · feed_forward]
    __nv_bfloat16* gated;       // [tokens, feed_forward]
    uint64_t* shares;           // kDecodeShares
    MatrixProducts::Room products;
    int64_t bytes;
  };
  static Activations lay_out(const DecoderShape& shape, WeightFormat format, const StepLimits& limits,
                             std::byte* arena);

  Decoder(const DecoderWeights& weights, MatrixProducts products, PagedAttention attention)
      : weights_(&weights), products_(std::move(products)), attention_(std::move(attention)) {}
  Status tune(const CudaStream& stream, const StepLimits& limits);
  void embed_tokens(const CudaStream& stream, const DeviceStep& step);
  Status attention_block(const CudaStream& stream, const DeviceStep& step, const DecoderLayer& layer,
                         const KvCache& cache);
  Status feed_forward_block(const CudaStream& stream, int64_t tokens, const DecoderLayer& layer);
  Status head(const CudaStream& stream, const DeviceStep& step, float* logits);
  Status fused_down(const CudaStream& stream, const DeviceMatrix& down, int64_t rows);
  void fused_attention(const CudaStream& stream, const DeviceStep& step, const DecoderLayer& layer,
                       const KvCache& cache);
  Status fused_feed_forward(const CudaStream& stream, int64_t rows, const DecoderLayer& layer);
  Status mixture(const CudaStream& stream, int64_t tokens, const DecoderLayer& layer, bool few);
  // The whole model's result is added to the residual; a rank's summand is stored.
  bool whole() const { return shape().ranks == 1; }
  DecodeEpilogue block_end() const { return whole() ? DecodeEpilogue::kAddResidual : DecodeEpilogue::kStore; }
  void fused_linear(const CudaStream& stream, DecodeEpilogue epilogue, const DeviceMatrix& matrix,
                    const __nv_bfloat16* norm, const __nv_bfloat16* x, int64_t rows, void* out,
                    int prefetch_bytes, const __nv_bfloat16* bias = nullptr);

  const DecoderWeights* weights_;
  DecoderOptions options_;
  MatrixProducts products_;
  PagedAttention attention_;
  ExpertMixture mixture_;  // empty where every layer is dense
  DeviceRopeTable rope_;
  DeviceBuffer arena_;
  Activations a_ = {};
  FusedSchedule fused_;
};

}  // namespace crible::cuda
