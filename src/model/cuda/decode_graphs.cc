#include "model/cuda/decode_graphs.h"

#include "base/units.h"

namespace crible::cuda {

int64_t DecodeGraphs::padded_rows(int64_t rows) const {
  constexpr int64_t kStep = 8;
  constexpr int64_t kWideStep = 16;
  constexpr int64_t kWideFrom = 64;
  if (fused(rows)) return rows;
  return round_up(rows, rows <= kWideFrom ? kStep : kWideStep);
}

Status DecodeGraphs::run(const CudaStream& stream, const BatchView& batch) {
  const int64_t rows = padded_rows(batch.num_sequences);
  const bool use_fused = fused(rows);
  CRIBLE_RETURN_IF_ERROR(batch_.send(stream, batch, rows));
  if (!use_fused) CRIBLE_RETURN_IF_ERROR(decoder_->plan(stream, batch_.plan_input(/*graph=*/true)));
  CudaGraph& graph = graphs_[rows];
  if (graph.empty()) {
    CRIBLE_TRY(graph, CudaGraph::capture(stream, [&] {
                 return use_fused ? decoder_->decode_fused(stream, batch_.device(), *cache_, logits_)
                                  : decoder_->forward(stream, batch_.device(), *cache_, logits_);
               }));
  }
  return graph.launch(stream);
}

}  // namespace crible::cuda
