// Paged causal attention with grouped queries on the GPU, in BF16 over a cache in BF16 or FP8, by
// kernels of its own (ops/decode_attention/batched_decode_cuda.h for single queries, with up to 8 query heads
// to a KV head; prompt_attention_cuda.h) and by FlashInfer's: FlashAttention-2 with split context where those
// do not fit and for a few queries, FlashAttention-3 for short prompts. A mixed batch runs as two launches.
// The own kernel of prompts and FlashAttention-3 read BF16 alone: for them the contexts of an FP8 cache are
// widened first, as far as there is room. Reads 4·head_size·kv_heads·context bytes per sequence (FP8: half);
// computes 4·head_size·heads operations per (query, visible key) pair. Agrees with attention_cpu.cc up to
// BF16 rounding of its inputs and weights. Independent of the batch, bit for bit, with
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
#include "ops/attention/prompt_attention_cuda.h"

namespace crible::cuda {

struct AttentionLimits {
  int64_t max_tokens = 1;  // query tokens of a step
  int64_t max_sequences = 1;
};

// For sequences with more than one query. FlashAttention-3 and kOwn (prompt_attention_cuda.h) read BF16
// alone.
enum class PromptKernel : uint8_t { kBest, kFlash2, kFlash3, kOwn };

struct AttentionOptions {
  KvType kv_type = KvType::kBf16;
  // A query's result depends on its own sequence alone: no context is split, one kernel for all lengths.
  bool fixed = false;
  // FP8: blocks of a step's long prompts that can be widened; a step with more takes FlashAttention-2.
  int64_t max_widened_blocks = 0;
  // Single queries by batched_decode(), where it has the shape.
  bool direct_decode = true;
  PromptKernel prompts = PromptKernel::kBest;
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
  enum class Kernel { kNone, kFlash2, kFlash3, kFixed, kDirect, kPrompt };
  // What one launch needs beside its inputs: the schedule that the planner wrote.
  struct Section {
    Kernel kernel = Kernel::kNone;
    int64_t first_sequence = 0;
    int64_t num_sequences = 0;
    int64_t num_rows = 0;  // query tokens
    int64_t first_block = 0;
    int64_t num_blocks = 0;
    bool alone = false;  // the step has no other sequences
    Flash2Plan flash2;
    Flash3Plan flash3;
    PromptSchedule prompt;
    PromptPlan prompt_plan;
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
  Status create_direct();
  KvCache widen(const CudaStream& stream, const Section& section, const AttentionBatch& batch,
                const KvCache& cache) const;
  Kernel kernel_for_singles() const;
  Kernel kernel_for_prompts(const AttentionPlanInput& input, int64_t first) const;
  Status run_section(const CudaStream& stream, const Section& section, const __nv_bfloat16* q,
                     int64_t q_stride, const AttentionBatch& batch, const KvCache& cache,
                     __nv_bfloat16* out) const;
  Status send_prompt_plan(const CudaStream& stream, const PlanCall& call, Section& section) const;
  Status plan_section(const CudaStream& stream, const AttentionPlanInput& input, Section& section,
                      Kernel kernel, int64_t first, int64_t count);

  AttentionShape shape_;
  AttentionOptions options_;
  DeviceBuffer partial_;                // partial results of split contexts
  std::array<Section, 2> sections_;     // single queries; the others
  DeviceBuffer widened_;                // [max_widened_blocks][K, V][kv_heads][block_size][head_size] BF16
  DeviceBuffer widened_blocks_;         // [max_widened_blocks] its block ids in order: 0, 1, ...
  std::vector<int32_t> widened_start_;  // kv_start over it, of the sequences of a step
  int prompt_blocks_ = 0;               // of prompt_attention()'s grid
  int direct_blocks_ = 0;               // of batched_decode()'s
  DeviceBuffer direct_counters_;
};

}  // namespace crible::cuda
