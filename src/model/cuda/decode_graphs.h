// A decode step as one graph launch, per batch size: exact sizes where the fused kernels serve, buckets above
// (the batch is padded to the next). Captured on first use, or ahead of need by capture_next().
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "base/result.h"
#include "device/cuda/cuda_stream.h"
#include "model/cuda/decoder.h"
#include "model/cuda/kv_pool.h"
#include "model/cuda/step_batch.h"

namespace crible::cuda {

// A batch without sequences, to be padded: what a graph holds does not depend on them.
BatchView padding_alone();

// The smallest size of a batch, up to max_rows as it is padded, for which `graphs` has none; nothing if it has all.
template <typename Graphs>
std::optional<int64_t> first_uncaptured(const Graphs& graphs, int64_t max_rows) {
  int64_t rows = graphs.padded_rows(1);
  while (graphs.captured(rows)) {
    if (rows >= max_rows) return std::nullopt;
    rows = graphs.padded_rows(rows + 1);
  }
  return rows;
}

enum class DecodePath : uint8_t { kBest, kUnfused };

class DecodeGraphs {
 public:
  // All must outlive this. logits: [max_rows padded to its bucket, head_rows()].
  DecodeGraphs(Decoder& decoder, const KvPool& cache, StepBatch batch, float* logits,
               DecodePath path = DecodePath::kBest)
      : decoder_(&decoder), cache_(&cache), batch_(std::move(batch)), logits_(logits), path_(path) {}

  // Room that a batch of this size may be padded to, whatever the decoder.
  static int64_t most_padded_rows(int64_t rows);
  // The number of sequences that a batch of this size is padded to.
  int64_t padded_rows(int64_t rows) const;
  bool fused(int64_t rows) const { return path_ == DecodePath::kBest && decoder_->fused_fits(rows); }
  bool captured(int64_t rows) const { return graphs_.contains(padded_rows(rows)); }

  // Enqueues one step: every sequence has one token and wants its logits.
  Status run(const CudaStream& stream, const BatchView& batch);
  // Captures the smallest batch size up to max_rows that is not captured; false if all are. Overwrites the step
  // arrays: nothing may be under way.
  Result<bool> capture_next(const CudaStream& stream, int64_t max_rows);
  // Forgets the graphs: after a change of the decoder's schedule.
  void clear() { graphs_.clear(); }
  StepBatch& batch() { return batch_; }

 private:
  // Of the step arrays last sent, all of one token.
  Result<CudaGraph> capture(const CudaStream& stream, bool use_fused);

  Decoder* decoder_;
  const KvPool* cache_;
  StepBatch batch_;
  float* logits_;
  DecodePath path_;
  std::map<int64_t, CudaGraph> graphs_;
};

}  // namespace crible::cuda
