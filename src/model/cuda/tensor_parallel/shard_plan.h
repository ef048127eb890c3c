// How the weights of a decoder are divided over the ranks of a tensor-parallel group (Shoeybi et al. 2019,
// Megatron-LM), one rank a GPU. Pure: knows shapes, no memory.
//   query, key, value   rows, by whole heads: a rank has KV heads and the query heads that read them; with more
//                       ranks than KV heads, neighbouring ranks hold the same one
//   output, down        columns: a rank's product is a summand of the whole one
//   gate, up            rows, the same of both; of a mixture those of every expert, so that a rank computes
//                       all experts at a share of their width
//   head                rows in equal shares; what the last shares have beyond the vocabulary is never read
//   embedding, router, norms, norms of heads: whole on every rank
#pragma once

#include <cstdint>

#include "base/result.h"
#include "model/cuda/decoder_shape.h"
#include "model/cuda/decoder_weights.h"

namespace crible::cuda {

enum class WeightPart : uint8_t {
  kEmbedding, kHead, kQuery, kKey, kValue, kOutput, kRouter, kGate, kUp, kDown,
};
const char* weight_part_name(WeightPart part);

struct Range {
  int64_t first = 0;
  int64_t count = 0;

  int64_t end() const { return first + count; }
  bool operator==(const Range&) const = default;
};

// What a rank holds of one matrix; of a bias vector, rows.
struct Shard {
  Range rows;     // of the whole matrix
  Range columns;
  int64_t target_row = 0;  // where the rows begin in the rank's stacked matrix (q, k, v; gate, up)

  bool operator==(const Shard&) const = default;
};

class ShardPlan {
 public:
  // kInvalidArgument says what cannot be divided by that many, and by how many it can.
  static Result<ShardPlan> create(const DecoderShape& whole, int64_t ranks);

  const DecoderShape& whole() const { return whole_; }
  int64_t ranks() const { return ranks_; }
  // Ranks have equal shapes and differ in DecoderShape::rank alone.
  DecoderShape shape_of(int64_t rank) const;
  // Of the matrix as decoders have it, of one expert in a mixture.
  Shard shard(WeightPart part, int64_t rank) const;
  // Whether every rank's share can lie in that format: whole tiles, blocks and groups.
  Status fits(WeightFormat format) const;

 private:
  ShardPlan(const DecoderShape& whole, int64_t ranks) : whole_(whole), ranks_(ranks) {}
  Range query_rows(int64_t rank) const;
  Range kv_rows(int64_t rank) const;
  Range hidden(int64_t rank) const;

  DecoderShape whole_;
  int64_t ranks_;
};

}  // namespace crible::cuda
