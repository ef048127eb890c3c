// The workspace of one GPU: KV blocks, the decoder with its working memory, step arrays, logits, sampler, captured
// graphs.
#pragma once

#include <memory>

#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "engine/cuda/gpu_workspace.h"
#include "engine/memory_plan.h"
#include "model/cuda/decode_graphs.h"

namespace crible::cuda {

class DeviceWorkspace final : public GpuWorkspace {
 public:
  // Without weights and runtime.
  static MemoryNeeds needs(const DecoderWeights& weights, const EngineConfig& resolved);
  // Stream, weights and rope outlive the workspace.
  // choices: taken over, and left with what was measured beside.
  static Result<std::unique_ptr<GpuWorkspace>> create(const CudaStream& stream, const DecoderWeights& weights,
                                                      const RopeTable& rope, const EngineConfig& resolved,
                                                      const MemoryPlan& plan, MatmulChoices& choices);

  Result<bool> capture_next() override { return graphs_.capture_next(stream_, max_sequences()); }
  const KvPool& pool(int64_t /*rank*/) const override { return pool_; }
  const DecoderOptions& options() const override { return decoder_.options(); }

 private:
  DeviceWorkspace(const CudaStream& stream, const EngineConfig& resolved, Decoder decoder, KvPool pool,
                  StepBatch arrays, DeviceBuffer logits, DeviceSampler sampler);
  Status copy_blocks(std::span<const BlockCopy> copies) override;
  Status forward(const BatchView& view, bool decodes_only) override;
  Result<SampledRows> sample(std::span<const SampleRow> rows) override;

  const CudaStream& stream_;
  Decoder decoder_;
  KvPool pool_;
  DeviceBuffer logits_;  // [rows of the largest step, head_rows()] float32
  DeviceSampler sampler_;
  DecodeGraphs graphs_;
};

}  // namespace crible::cuda
