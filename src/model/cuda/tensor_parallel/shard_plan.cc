#include "model/cuda/tensor_parallel/shard_plan.h"

#include <algorithm>
#include <string>

#include "base/check.h"
#include "base/units.h"

namespace crible::cuda {
namespace {

// cuBLASLt wants rows and columns in multiples of it; a share of the head is padded to it.
constexpr int64_t kMatmulUnit = 16;
constexpr int64_t kMostRanks = 64;  // that an error proposes

int64_t hidden_size(const DecoderShape& s) { return s.experts > 0 ? s.expert_feed_forward : s.feed_forward; }

bool kv_heads_divide(const DecoderShape& s, int64_t ranks) {
  return s.kv_heads % ranks == 0 || ranks % s.kv_heads == 0;
}
bool hidden_divides(const DecoderShape& s, int64_t ranks) { return hidden_size(s) % (ranks * kMatmulUnit) == 0; }
bool divides(const DecoderShape& s, int64_t ranks) {
  return s.heads % ranks == 0 && kv_heads_divide(s, ranks) && hidden_divides(s, ranks);
}

std::string possible_ranks(const DecoderShape& s) {
  std::string list;
  for (int64_t n = 1; n <= kMostRanks; ++n) {
    if (n == 1 || divides(s, n)) list += (list.empty() ? "" : ", ") + std::to_string(n);
  }
  return list;
}

}  // namespace

const char* weight_part_name(WeightPart part) {
  switch (part) {
    case WeightPart::kEmbedding: return "embedding";
    case WeightPart::kHead: return "head";
    case WeightPart::kQuery: return "query";
    case WeightPart::kKey: return "key";
    case WeightPart::kValue: return "value";
    case WeightPart::kOutput: return "output";
    case WeightPart::kRouter: return "router";
    case WeightPart::kGate: return "gate";
    case WeightPart::kUp: return "up";
    case WeightPart::kDown: return "down";
  }
  return "?";
}

Result<ShardPlan> ShardPlan::create(const DecoderShape& whole, int64_t ranks) {
  const auto refuse = [&](const std::string& what) {
    return fail(ErrorCode::kInvalidArgument,
                "tensor-parallel-size {} does not divide {}; this model can be divided by {}", ranks, what,
                possible_ranks(whole));
  };
  if (ranks < 1) return fail(ErrorCode::kInvalidArgument, "tensor-parallel-size is {}; use 1 or more", ranks);
  CHECK(whole.ranks == 1, "a share of {} is divided again", whole.ranks);
  if (ranks == 1) return ShardPlan(whole, ranks);
  if (whole.heads % ranks != 0) return refuse(fmt::format("the {} query heads", whole.heads));
  if (!kv_heads_divide(whole, ranks)) {
    return refuse(fmt::format("the {} KV heads, nor is it a multiple of them", whole.kv_heads));
  }
  if (!hidden_divides(whole, ranks)) {
    return refuse(fmt::format("the feed-forward width of {} into multiples of {}", hidden_size(whole), kMatmulUnit));
  }
  return ShardPlan(whole, ranks);
}

DecoderShape ShardPlan::shape_of(int64_t rank) const {
  CHECK(rank >= 0 && rank < ranks_, "rank {} of {}", rank, ranks_);
  DecoderShape shape = whole_;
  shape.heads = whole_.heads / ranks_;
  shape.kv_heads = std::max<int64_t>(1, whole_.kv_heads / ranks_);
  shape.feed_forward = whole_.feed_forward / ranks_;
  shape.expert_feed_forward = whole_.expert_feed_forward / ranks_;
  shape.ranks = ranks_;
  shape.rank = rank;
  return shape;
}

Range ShardPlan::query_rows(int64_t rank) const {
  const int64_t rows = whole_.query_size() / ranks_;
  return {rank * rows, rows};
}

// Rank r of more ranks than heads reads the head that its query heads' group reads.
Range ShardPlan::kv_rows(int64_t rank) const {
  const int64_t heads = std::max<int64_t>(1, whole_.kv_heads / ranks_);
  const int64_t first = rank * whole_.kv_heads / ranks_;
  return {first * whole_.head_size, heads * whole_.head_size};
}

Range ShardPlan::hidden(int64_t rank) const {
  const int64_t share = hidden_size(whole_) / ranks_;
  return {rank * share, share};
}

Shard ShardPlan::shard(WeightPart part, int64_t rank) const {
  const DecoderShape own = shape_of(rank);
  const Range width = {0, whole_.embedding};
  switch (part) {
    case WeightPart::kEmbedding: return {{0, whole_.vocabulary}, width};
    case WeightPart::kHead: {
      const int64_t first = std::min(own.first_head_row(), whole_.vocabulary);
      return {{first, std::min(own.head_rows(), whole_.vocabulary - first)}, width};
    }
    case WeightPart::kQuery: return {query_rows(rank), width};
    case WeightPart::kKey: return {kv_rows(rank), width, own.query_size()};
    case WeightPart::kValue: return {kv_rows(rank), width, own.query_size() + own.kv_size()};
    case WeightPart::kOutput: return {width, query_rows(rank)};
    case WeightPart::kRouter: return {{0, whole_.experts}, width};
    case WeightPart::kGate: return {hidden(rank), width};
    case WeightPart::kUp: return {hidden(rank), width, hidden(rank).count};
    case WeightPart::kDown: return {width, hidden(rank)};
  }
  CHECK(false, "part {}", static_cast<int>(part));
}

Status ShardPlan::fits(WeightFormat format) const {
  const Status own = format_fits(shape_of(0), format);
  if (!own) {
    return tl::unexpected<Error>(
        with_context(own.error(), fmt::format("one share of {} (tensor-parallel-size)", ranks_)));
  }
  if (ranks_ == 1 || format.group == 0) return {};
  // A scale covers `group` inputs: a share begins and ends with one.
  for (const WeightPart part : {WeightPart::kOutput, WeightPart::kDown}) {
    const int64_t columns = shard(part, 0).columns.count;
    if (columns % format.group == 0) continue;
    return fail(ErrorCode::kInvalidArgument,
                "tensor-parallel-size {} gives a rank {} inputs of the {} matrix, which cuts a group of {} that share "
                "a scale; use a smaller size, or quantization bf16",
                ranks_, columns, weight_part_name(part), format.group);
  }
  return {};
}

}  // namespace crible::cuda
