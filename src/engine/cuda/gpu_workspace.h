// Everything on one or several GPUs that depends on the configuration, and the course of a step that both have in
// common: blocks are copied, the step's arrays built, the forward pass and the draws enqueued, the results named. Made anew
// by every change of the configuration, of sizes known beforehand; a step allocates nothing. Used by one thread.
#pragma once

#include <memory>
#include <span>

#include "config/engine_config.h"
#include "engine/batch.h"
#include "engine/step_runner.h"
#include "model/cuda/decoder.h"
#include "model/cuda/kv_pool.h"
#include "ops/sample/device_sampler_cuda.h"

namespace crible::cuda {

// What the settings ask of the decoder and the sampler.
StepLimits step_limits(const EngineConfig& resolved);
DecoderOptions decoder_options(const EngineConfig& resolved);
DeviceSamplerLimits sampler_limits(const EngineConfig& resolved, int64_t vocabulary, int64_t logits_stride);

class GpuWorkspace {
 public:
  virtual ~GpuWorkspace() = default;

  // Enqueues a step and the copy of its results, which results() names until the step after the next is enqueued.
  Status enqueue(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies);
  StepOutput results() const;
  // Captures the graph of one more batch size; false if all are there.
  virtual Result<bool> capture_next() = 0;

  virtual const KvPool& pool(int64_t rank) const = 0;
  virtual const DecoderOptions& options() const = 0;
  const BatchLimits& limits() const { return batch_.limits(); }

 protected:
  explicit GpuWorkspace(const EngineConfig& resolved);
  int64_t max_sequences() const { return max_sequences_; }

  virtual Status copy_blocks(std::span<const BlockCopy> copies) = 0;
  // decodes_only: each sequence has one token and one row of logits.
  virtual Status forward(const BatchView& view, bool decodes_only) = 0;
  // Draws from the logits of the forward pass and enqueues the copy of what comes of it.
  virtual Result<SampledRows> sample(std::span<const SampleRow> rows) = 0;

 private:
  Batch batch_;
  SampledRows sampled_;
  bool reports_ = false;
  int64_t max_sequences_;
};

}  // namespace crible::cuda
