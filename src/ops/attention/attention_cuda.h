// Paged causal attention with grouped queries on the GPU, in BF16 over a cache in BF16 or FP8, by
// FlashInfer's kernels: FlashAttention-2 with split context for decodes (its prefill template, which serves
// grouped queries best) and short prompts, FlashAttention-3 for long prompts. A mixed batch runs as two
// launches. Decodes over an FP8 cache have a kernel of their own
// (ops/decode_attention/fp8_decode_attention_cuda.h). FlashAttention-3 reads BF16 alone: for it the contexts
// are widened first, as far as there is room. Reads 4·head_size·kv_heads·context bytes per sequence (FP8:
// half); computes 4·head_size·heads operations per (query, visible key) pair. Agrees with attention_cpu.cc up
// to BF16 rounding of its inputs and weights. Independent of the batch, bit for bit, with
// AttentionOptions::fixed.
#pragma once

#include <cuda_bf16.h>

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "ops/attention/flashinfer_call.h"

namespace crible::cuda {

struct AttentionLimits {
  int64_t max_tokens = 1;  // query tokens of a step
  int64_t max_sequences = 1;
};

struct AttentionOptions {
  KvType kv_type = KvType::kBf16;
  // A query's result depends on its own sequence alone: no context is split, one kernel for all lengths.
  bool fixed = false;
  // FP8: blocks of a step's long prompts that can be widened; a step with more takes FlashAttention-2.
  int64_t max_widened_blocks = 0;
  // FP8: single queries by fp8_decode_attention(), where it has the shape.
  bool direct_decode = true;
};

// The sequences of a step, as the host sees them when it plans. Those with one query token come first.
struct AttentionPlanInput {
  int64_t num_sequences = 0;
  const int32_t* query_start = nullptr;     // [num_sequences + 1]
  const int32_t* kv_start = nullptr;        // [num_sequences + 1] into the list of blocks
  const int32_t* context_length = nullptr;  // [num_sequences]
  bool graph = false;  // all sequences have one query; the launches do not depend on the context lengths
};

// The same sequences on the device. Valid until the stream has run the step.
struct AttentionBatch {
  const int32_t* query_start = nullptr;
  const int32_t* kv_start = nullptr;
  const int32_t* kv_blocks = nullptr;          // block ids of all sequences, in order
  const int32_t* last_block_tokens = nullptr;  // [num_sequences] tokens in the last block, 1 to block_size
};

// Owns the workspaces. plan() once a step, before run() of each layer. One step may be planned while the
// one before it runs. Used by one thread.
class PagedAttention {
 public:
  static Result<PagedAttention> create(const AttentionShape& shape, const AttentionLimits& limits,
                                       const AttentionOptions& options = {});
  static int64_t workspace_bytes(const AttentionShape& shape, const AttentionLimits& limits,
                                 const AttentionOptions& options = {});

  Status plan(const CudaStream& stream, const AttentionPlanInput& input);
  // q [tokens, heads, head_size] with rows of q_stride elements; out [tokens, heads · head_size].
  Status run(const CudaStream& stream, const __nv_bfloat16* q, int64_t q_stride, const AttentionBatch& batch,
             const KvCache& cache, __nv_bfloat16* out) const;

 private:
  enum class Kernel { kNone, kFlash2, kFlash3, kFixed, kDirect };
  // What one launch needs beside its inputs: the schedule that the planner wrote.
  struct Section {
    Kernel kernel = Kernel::kNone;
    int64_t first_sequence = 0;
    int64_t num_sequences = 0;
    int64_t num_rows = 0;  // query tokens
    int64_t first_block = 0;
    int64_t num_blocks = 0;
    Flash2Plan flash2;
    Flash3Plan flash3;
    DeviceBuffer schedule;
    // Two: one may still be copied from while the next step is planned.
    std::array<PinnedBuffer, 2> staging;
    std::array<CudaEvent, 2> copied;
    int next = 0;
  };

  PagedAttention(const AttentionShape& shape, const AttentionOptions& options, DeviceBuffer partial,
                 Section singles, Section others)
      : shape_(shape),
        options_(options),
        partial_(std::move(partial)),
        sections_{std::move(singles), std::move(others)} {}
  static Result<Section> create_section();
  Status create_widened(const AttentionLimits& limits);
  KvCache widen(const CudaStream& stream, const Section& section, const AttentionBatch& batch,
                const KvCache& cache) const;
  Kernel kernel_for_singles() const;
  Status plan_section(const CudaStream& stream, const AttentionPlanInput& input, Section& section,
                      Kernel kernel, int64_t first, int64_t count);

  AttentionShape shape_;
  AttentionOptions options_;
  DeviceBuffer partial_;                // partial results of split contexts
  std::array<Section, 2> sections_;     // single queries; the others
  DeviceBuffer widened_;                // [max_widened_blocks][K, V][kv_heads][block_size][head_size] BF16
  DeviceBuffer widened_blocks_;         // [max_widened_blocks] its block ids in order: 0, 1, ...
  std::vector<int32_t> widened_start_;  // kv_start over it, of the sequences of a step
};

}  // namespace crible::cuda
