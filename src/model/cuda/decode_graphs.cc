#include "model/cuda/decode_graphs.h"

#include "base/units.h"

namespace crible::cuda {
namespace {

int64_t bucket_of(int64_t rows) {
  constexpr int64_t kStep = 8;
  constexpr int64_t kWideStep = 16;
  constexpr int64_t kWideFrom = 64;
  return round_up(rows, rows <= kWideFrom ? kStep : kWideStep);
}

}  // namespace

BatchView padding_alone() {
  static constexpr int32_t kNone = 0;
  return {.token_ids = &kNone,
          .positions = &kNone,
          .query_start = &kNone,
          .context_length = &kNone,
          .block_table = &kNone,
          .logit_rows = &kNone};
}

int64_t DecodeGraphs::most_padded_rows(int64_t rows) { return bucket_of(rows); }

int64_t DecodeGraphs::padded_rows(int64_t rows) const { return fused(rows) ? rows : bucket_of(rows); }

Result<CudaGraph> DecodeGraphs::capture(const CudaStream& stream, bool use_fused) {
  return CudaGraph::capture(stream, [&] {
    return use_fused ? decoder_->decode_fused(stream, batch_.device(), *cache_, logits_)
                     : decoder_->forward(stream, batch_.device(), *cache_, logits_);
  });
}

Status DecodeGraphs::run(const CudaStream& stream, const BatchView& batch) {
  const int64_t rows = padded_rows(batch.num_sequences);
  const bool use_fused = fused(rows);
  CRIBLE_RETURN_IF_ERROR(batch_.send(stream, batch, rows));
  if (!use_fused) CRIBLE_RETURN_IF_ERROR(decoder_->plan(stream, batch_.plan_input(/*graph=*/true)));
  CudaGraph& graph = graphs_[rows];
  if (graph.empty()) {
    CRIBLE_TRY(graph, capture(stream, use_fused));
  }
  return graph.launch(stream);
}

Result<bool> DecodeGraphs::capture_next(const CudaStream& stream, int64_t max_rows) {
  const std::optional<int64_t> next = first_uncaptured(*this, max_rows);
  if (!next) return false;
  const int64_t rows = *next;
  CRIBLE_RETURN_IF_ERROR(batch_.send(stream, padding_alone(), rows));
  const bool use_fused = fused(rows);
  if (!use_fused) CRIBLE_RETURN_IF_ERROR(decoder_->plan(stream, batch_.plan_input(/*graph=*/true)));
  CRIBLE_TRY(graphs_[rows], capture(stream, use_fused));
  return true;
}

}  // namespace crible::cuda
