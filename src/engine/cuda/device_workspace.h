// Everything on the GPU that depends on the configuration: KV blocks, the decoder with its working memory,
// step arrays, logits, sampler, captured graphs. Made anew by every change of the configuration, of sizes known
// beforehand; a step allocates nothing. Used by one thread.
#pragma once

#include <memory>

#include "config/engine_config.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "engine/batch.h"
#include "engine/memory_plan.h"
#include "engine/step_runner.h"
#include "model/cuda/decode_graphs.h"
#include "model/cuda/decoder.h"
#include "model/cuda/kv_pool.h"
#include "ops/sample/device_sampler_cuda.h"

namespace crible::cuda {

// What the settings ask of the decoder and the sampler.
StepLimits step_limits(const EngineConfig& resolved);
DecoderOptions decoder_options(const EngineConfig& resolved);
DeviceSamplerLimits sampler_limits(const EngineConfig& resolved, int64_t vocabulary, int64_t logits_stride);

class DeviceWorkspace {
 public:
  // Without weights and runtime.
  static MemoryNeeds needs(const DecoderWeights& weights, const EngineConfig& resolved);
  // Weights and rope outlive the workspace.
  static Result<std::unique_ptr<DeviceWorkspace>> create(const CudaStream& stream, const DecoderWeights& weights,
                                                         const RopeTable& rope, const EngineConfig& resolved,
                                                         const MemoryPlan& plan);

  // Enqueues a step and the copy of its results, which results() names until the step after the next is enqueued.
  Status enqueue(const CudaStream& stream, std::span<const ScheduledSequence> entries,
                 std::span<const BlockCopy> copies);
  StepOutput results() const;
  // Captures the graph of one more batch size; false if all are there.
  Result<bool> capture_next(const CudaStream& stream);

  const Batch& batch() const { return batch_; }
  const KvPool& pool() const { return pool_; }
  const Decoder& decoder() const { return decoder_; }

 private:
  DeviceWorkspace(const EngineConfig& resolved, Decoder decoder, KvPool pool, StepBatch arrays, DeviceBuffer logits,
                  DeviceSampler sampler);
  Status forward(const CudaStream& stream, const BatchView& view, bool decodes_only);

  Batch batch_;
  Decoder decoder_;
  KvPool pool_;
  DeviceBuffer logits_;  // [rows of the largest step, head_rows()] float32
  DeviceSampler sampler_;
  DecodeGraphs graphs_;
  SampledRows sampled_;
  bool reports_ = false;
  int64_t max_sequences_;
};

}  // namespace crible::cuda
