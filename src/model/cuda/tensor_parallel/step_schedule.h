// The parts of a step between which the ranks of a tensor-parallel group exchange results, and what they exchange.
// Every rank has the same parts, and after each the same collective of the same size: nobody waits for a message
// that is not sent. Part 0 embeds and attends in layer 0, part 2i + 1 is the feed-forward block of layer i, part
// 2i + 2 the attention of layer i + 1; the last part is the head. Pure.
#pragma once

#include <cstdint>
#include <utility>

#include "base/result.h"
#include "model/cuda/decoder_shape.h"

namespace crible::cuda {

enum class CollectiveKind : uint8_t {
  kSum,     // BF16 partial sums of the tokens' residual, in place on every rank
  kGather,  // float32 logits: the ranks' shares of the vocabulary side by side on every rank
};

struct Collective {
  CollectiveKind kind;
  int64_t elements;  // that a rank contributes

  bool operator==(const Collective&) const = default;
};

struct StepSize {
  int64_t tokens = 0;
  int64_t logit_rows = 0;
};

constexpr int64_t num_parts(const DecoderShape& shape) { return 2 * shape.layers + 1; }

inline Collective collective_after(const DecoderShape& shape, int64_t part, const StepSize& size) {
  if (part + 1 == num_parts(shape)) return {CollectiveKind::kGather, size.logit_rows * shape.head_rows()};
  return {CollectiveKind::kSum, size.tokens * shape.embedding};
}

// Bytes that a rank sends in one step when every collective is a ring's: twice (N - 1) / N of a sum, N - 1 shares
// of a gather.
inline int64_t bytes_sent(const DecoderShape& shape, const StepSize& size) {
  const int64_t sum = collective_after(shape, 0, size).elements * 2;
  const int64_t gather = collective_after(shape, num_parts(shape) - 1, size).elements * 4;
  return (num_parts(shape) - 1) * 2 * sum * (shape.ranks - 1) / shape.ranks + gather * (shape.ranks - 1);
}

// One host thread for all ranks: each part is enqueued on every rank before the exchange that follows it, so no
// collective waits on the device for a rank whose turn the host has not come to.
//   enqueue(rank, part) -> Status; exchange(collective) -> Status
template <typename Enqueue, typename Exchange>
Status enqueue_in_lockstep(const DecoderShape& shape, const StepSize& size, Enqueue&& enqueue, Exchange&& exchange) {
  for (int64_t part = 0; part < num_parts(shape); ++part) {
    for (int64_t rank = 0; rank < shape.ranks; ++rank) CRIBLE_RETURN_IF_ERROR(enqueue(rank, part));
    const Collective collective = collective_after(shape, part, size);
    if (collective.elements > 0) CRIBLE_RETURN_IF_ERROR(exchange(collective));
  }
  return {};
}

}  // namespace crible::cuda
