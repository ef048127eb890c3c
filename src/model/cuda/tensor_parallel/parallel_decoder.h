// A decoder divided over several GPUs of one process, all driven by one host thread. Every rank gets the step's
// arrays, computes its share of each part and takes part in the exchanges (step_schedule.h); in the end every rank
// has all logits, bit for bit the same, and whoever samples on each draws the same tokens: none is sent around.
// Owns each rank's decoder, KV pool, step arrays, logits and captured graphs. Allocates nothing in a step. Used by
// one thread.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"
#include "device/cuda/gpu_group.h"
#include "model/cuda/decoder.h"
#include "model/cuda/kv_pool.h"
#include "model/cuda/step_batch.h"
#include "model/cuda/tensor_parallel/step_schedule.h"

namespace crible::cuda {

class ParallelDecoder {
 public:
  // All outlive the decoder.
  struct RankPlace {
    int device;
    const CudaStream* stream;
    const DecoderWeights* weights;
  };

  // group: of the ranks' devices in their order. tuned: as in Decoder::create.
  static Result<ParallelDecoder> create(std::span<const RankPlace> ranks, const RopeTable& rope, GpuGroup& group,
                                        const StepLimits& limits, const DecoderOptions& options, int64_t num_blocks,
                                        const MatmulChoices& tuned = {});
  // On each GPU, without weights, KV blocks and what NCCL holds. shape: a rank's.
  static int64_t bytes_for(const DecoderShape& shape, WeightFormat format, const StepLimits& limits,
                           const DecoderOptions& options);

  // Enqueues one step on every rank. decodes_only: every sequence has one token and wants its logits; such a step is
  // one graph launch a rank where its size is captured.
  Status run(const BatchView& batch, bool decodes_only);
  // Captures the smallest decode up to max_rows that is not captured; false if all are. Nothing may be under way.
  Result<bool> capture_next(int64_t max_rows);

  // As in DecodeGraphs.
  int64_t padded_rows(int64_t rows) const;
  bool captured(int64_t rows) const { return ranks_[0].graphs.contains(padded_rows(rows)); }

  int64_t ranks() const { return std::ssize(ranks_); }
  int device(int64_t rank) const { return at(rank).place.device; }
  const CudaStream& stream(int64_t rank) const { return *at(rank).place.stream; }
  const KvPool& pool(int64_t rank) const { return at(rank).pool; }
  // [logit rows, vocabulary] of the step last enqueued, on the rank's GPU.
  float* logits(int64_t rank) const { return at(rank).logits.as<float>(); }
  void read_drawn_from(int64_t rank, const int32_t* tokens) { at(rank).arrays.read_drawn_from(tokens); }
  const Decoder& decoder(int64_t rank) const { return at(rank).decoder; }
  MatmulChoices choices() const { return ranks_[0].decoder.choices(); }

 private:
  struct Rank {
    RankPlace place;
    Decoder decoder;
    StepBatch arrays;
    DeviceBuffer gathered;  // [ranks, logit rows, head rows]
    DeviceBuffer logits;
    KvPool pool;
    std::map<int64_t, CudaGraph> graphs;  // by padded rows
  };

  ParallelDecoder(GpuGroup& group, std::vector<Rank> ranks) : group_(&group), ranks_(std::move(ranks)) {}
  const Rank& at(int64_t rank) const { return ranks_[static_cast<size_t>(rank)]; }
  Rank& at(int64_t rank) { return ranks_[static_cast<size_t>(rank)]; }
  const DecoderShape& shape() const { return ranks_[0].decoder.shape(); }
  bool fused(int64_t rows) const { return ranks_[0].decoder.fused_fits(rows); }
  Status send(const BatchView& batch, int64_t padded, bool fused, bool graph);
  Status enqueue(bool fused);
  Status exchange(const Collective& collective);
  Status join_logits();
  Status capture(size_t rank, int64_t rows, bool fused);

  GpuGroup* group_;
  std::vector<Rank> ranks_;
  std::vector<GpuGroup::Part> parts_;  // scratch of exchange()
};

}  // namespace crible::cuda
