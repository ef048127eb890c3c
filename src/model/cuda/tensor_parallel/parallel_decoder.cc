#include "model/cuda/tensor_parallel/parallel_decoder.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "base/check.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/device_scope.h"
#include "model/cuda/decode_graphs.h"

namespace crible::cuda {
namespace {

constexpr int64_t kFloatBytes = 4;

// One row's shares lie side by side as they are gathered: its logits, and what the last share has beyond them.
int64_t logits_bytes(const DecoderShape& shape, const StepLimits& limits) {
  return std::max(limits.max_logit_rows * shape.vocabulary, shape.ranks * shape.head_rows()) * kFloatBytes;
}
int64_t gathered_bytes(const DecoderShape& shape, const StepLimits& limits) {
  return limits.max_logit_rows * shape.ranks * shape.head_rows() * kFloatBytes;
}

// Where the ranks' shares of the logits come together: several rows still have to be put in order.
float* gather_place(const DeviceBuffer& gathered, const DeviceBuffer& logits, int64_t rows) {
  return rows == 1 ? logits.as<float>() : gathered.as<float>();
}

}  // namespace

int64_t ParallelDecoder::bytes_for(const DecoderShape& shape, WeightFormat format, const StepLimits& limits,
                                   const DecoderOptions& options) {
  return Decoder::arena_bytes(shape, limits, format) + Decoder::attention_bytes(shape, limits, options) +
         Matmul::workspace_bytes() + StepBatch::bytes_for(limits) + gathered_bytes(shape, limits) +
         logits_bytes(shape, limits);
}

Result<ParallelDecoder> ParallelDecoder::create(std::span<const RankPlace> places, const RopeTable& rope,
                                                GpuGroup& group, const StepLimits& limits,
                                                const DecoderOptions& options, int64_t num_blocks,
                                                const MatmulChoices& tuned) {
  CHECK(std::ssize(places) == group.ranks(), "{} ranks on {} GPUs", places.size(), group.ranks());
  std::vector<Rank> ranks;
  ranks.reserve(places.size());
  for (const RankPlace& place : places) {
    const DeviceScope scope(place.device);
    const DecoderShape& shape = place.weights->shape();
    CHECK(shape.ranks == group.ranks() && shape.rank == std::ssize(ranks), "rank {} of {} in place {}", shape.rank,
          shape.ranks, ranks.size());
    CRIBLE_TRY(Decoder decoder, Decoder::create(*place.stream, *place.weights, rope, limits, options,
                                                ranks.empty() ? tuned : ranks[0].decoder.choices()));
    CRIBLE_TRY(StepBatch arrays, StepBatch::create(limits));
    CRIBLE_TRY(DeviceBuffer gathered, DeviceBuffer::allocate(gathered_bytes(shape, limits)));
    CRIBLE_TRY(DeviceBuffer logits, DeviceBuffer::allocate(logits_bytes(shape, limits)));
    CRIBLE_TRY(KvPool pool, KvPool::create(shape, num_blocks, options.kv_type));
    ranks.push_back({.place = place,
                     .decoder = std::move(decoder),
                     .arrays = std::move(arrays),
                     .gathered = std::move(gathered),
                     .logits = std::move(logits),
                     .pool = std::move(pool),
                     .graphs = {}});
  }
  ParallelDecoder decoder(group, std::move(ranks));
  decoder.parts_.resize(places.size());
  return decoder;
}

int64_t ParallelDecoder::padded_rows(int64_t rows) const {
  return fused(rows) ? rows : DecodeGraphs::most_padded_rows(rows);
}

Status ParallelDecoder::run(const BatchView& batch, bool decodes_only) {
  if (decodes_only && captured(batch.num_sequences)) {
    const int64_t rows = padded_rows(batch.num_sequences);
    CRIBLE_RETURN_IF_ERROR(send(batch, rows, fused(rows), /*graph=*/true));
    for (Rank& rank : ranks_) {
      const DeviceScope scope(rank.place.device);
      CRIBLE_RETURN_IF_ERROR(rank.graphs.at(rows).launch(*rank.place.stream));
    }
    return {};
  }
  const bool use_fused = decodes_only && fused(batch.num_sequences);
  CRIBLE_RETURN_IF_ERROR(send(batch, 0, use_fused, /*graph=*/false));
  return enqueue(use_fused);
}

Status ParallelDecoder::send(const BatchView& batch, int64_t padded, bool use_fused, bool graph) {
  for (Rank& rank : ranks_) {
    const DeviceScope scope(rank.place.device);
    CRIBLE_RETURN_IF_ERROR(rank.arrays.send(*rank.place.stream, batch, padded));
    if (use_fused) continue;
    CRIBLE_RETURN_IF_ERROR(rank.decoder.plan(*rank.place.stream, rank.arrays.plan_input(graph)));
  }
  return {};
}

Status ParallelDecoder::enqueue(bool use_fused) {
  const DeviceStep& step = ranks_[0].arrays.device();
  const int64_t rows = step.num_logit_rows;
  CRIBLE_RETURN_IF_ERROR(enqueue_in_lockstep(
      shape(), {.tokens = step.num_tokens, .logit_rows = rows},
      [&](int64_t index, int64_t part) {
        Rank& rank = at(index);
        const DeviceScope scope(rank.place.device);
        float* share = gather_place(rank.gathered, rank.logits, rows) + index * rows * shape().head_rows();
        return rank.decoder.enqueue_part(*rank.place.stream, rank.arrays.device(), rank.pool, share, part, use_fused);
      },
      [&](const Collective& collective) { return exchange(collective); }));
  return join_logits();
}

Status ParallelDecoder::exchange(const Collective& collective) {
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const Rank& rank = ranks_[r];
    const int64_t rows = rank.arrays.device().num_logit_rows;
    void* data = collective.kind == CollectiveKind::kSum
                     ? static_cast<void*>(rank.decoder.sums())
                     : gather_place(rank.gathered, rank.logits, rows);
    parts_[r] = {.data = data, .stream = rank.place.stream->get()};
  }
  return collective.kind == CollectiveKind::kSum ? group_->sum_bf16(parts_, collective.elements)
                                                 : group_->gather_float(parts_, collective.elements);
}

// [ranks, rows, share] to [rows, vocabulary].
Status ParallelDecoder::join_logits() {
  const int64_t rows = ranks_[0].arrays.device().num_logit_rows;
  if (rows <= 1) return {};
  const int64_t share = shape().head_rows();
  const int64_t vocabulary = shape().vocabulary;
  for (const Rank& rank : ranks_) {
    const DeviceScope scope(rank.place.device);
    for (int64_t r = 0; r < shape().ranks; ++r) {
      const int64_t first = r * share;
      const int64_t width = std::min(share, vocabulary - first);
      if (width <= 0) break;
      CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy2DAsync(
          rank.logits.as<float>() + first, static_cast<size_t>(vocabulary * kFloatBytes),
          rank.gathered.as<float>() + first * rows, static_cast<size_t>(share * kFloatBytes),
          static_cast<size_t>(width * kFloatBytes), static_cast<size_t>(rows), cudaMemcpyDeviceToDevice,
          rank.place.stream->get()));
    }
  }
  return {};
}

// All ranks' streams are in capture mode together, as NCCL wants its groups; the last one to enter enqueues.
Status ParallelDecoder::capture(size_t index, int64_t rows, bool use_fused) {
  if (index == ranks_.size()) return enqueue(use_fused);
  Rank& rank = ranks_[index];
  const DeviceScope scope(rank.place.device);
  CRIBLE_TRY(CudaGraph graph, CudaGraph::capture(*rank.place.stream,
                                                 [&] { return capture(index + 1, rows, use_fused); }));
  rank.graphs[rows] = std::move(graph);
  return {};
}

Result<bool> ParallelDecoder::capture_next(int64_t max_rows) {
  const std::optional<int64_t> next = first_uncaptured(*this, max_rows);
  if (!next) return false;
  const int64_t rows = *next;
  const bool use_fused = fused(rows);
  CRIBLE_RETURN_IF_ERROR(send(padding_alone(), rows, use_fused, /*graph=*/true));
  const Status captured = capture(0, rows, use_fused);
  if (!captured) {
    for (Rank& rank : ranks_) rank.graphs.erase(rows);
    return tl::unexpected<Error>(captured.error());
  }
  return true;
}

}  // namespace crible::cuda
