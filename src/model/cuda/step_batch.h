// The arrays that describe a step, on the device at fixed addresses (captured graphs hold them) and sent
// there in one copy. Two staging buffers: a step may be packed while the one before it is being sent.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "ops/attention/attention_cuda.h"
#include "ops/batch_view.h"

namespace crible::cuda {

struct StepLimits {
  int64_t max_tokens = 1;
  int64_t max_sequences = 1;
  int64_t max_logit_rows = 1;
  int64_t max_blocks = 1;  // KV blocks of all sequences of a step
};

// Device pointers of one step.
struct DeviceStep {
  int64_t num_tokens = 0;
  int64_t num_sequences = 0;
  int64_t num_logit_rows = 0;
  const int32_t* token_ids = nullptr;  // below -1: drawn[-2 - id]
  const int32_t* drawn = nullptr;      // what the step before drew
  const int32_t* positions = nullptr;
  const int64_t* slots = nullptr;
  const int32_t* context_length = nullptr;
  const int32_t* logit_rows = nullptr;
  AttentionBatch attention;
};

class StepBatch {
 public:
  static Result<StepBatch> create(const StepLimits& limits);
  static int64_t bytes_for(const StepLimits& limits) { return lay_out(limits).bytes; }  // on the device
  // Where the tokens of the step before lie on the device.
  void read_drawn_from(const int32_t* tokens) { device_.drawn = tokens; }

  // Packs the host arrays of `batch` and enqueues their copy. Sequences with one query token come first.
  // padded_sequences above batch.num_sequences adds sequences of one token that write nowhere and whose
  // results nobody reads: a graph is captured for certain sizes only. 0: none.
  Status send(const CudaStream& stream, const BatchView& batch, int64_t padded_sequences = 0);

  const DeviceStep& device() const { return device_; }
  // For the planner of attention, of the step last sent.
  AttentionPlanInput plan_input(bool graph) const;

 private:
  struct Layout {
    int64_t token_ids, positions, slots, query_start, kv_start, context_length, last_block_tokens, logit_rows,
        kv_blocks, bytes;
  };
  static Layout lay_out(const StepLimits& limits);
  int64_t pack(const BatchView& batch, int64_t sequences, std::byte* target);

  StepBatch() = default;
  StepLimits limits_;
  Layout layout_ = {};
  DeviceBuffer buffer_;
  std::array<PinnedBuffer, 2> staging_;
  std::vector<CudaEvent> sent_;
  int next_ = 0;
  std::byte* latest_ = nullptr;
  DeviceStep device_;
};

}  // namespace crible::cuda
