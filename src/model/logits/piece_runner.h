// Runs sequences through a model step by step without an engine, in whatever pieces and company the
// caller chooses: for tests, and for the program that writes logits. Each sequence has blocks of its own,
// scattered over the cache.
#pragma once

#include <algorithm>
#include <numeric>
#include <random>
#include <span>
#include <vector>

#include "base/check.h"
#include "device/buffer.h"
#include "model/model.h"

namespace crible {

class PieceRunner {
 public:
  static constexpr int64_t kBlockSize = 16;

  struct Piece {
    int64_t sequence;
    int64_t first;  // position of tokens[0]
    std::span<const TokenId> tokens;
  };

  // Up to `sequences` sequences of `length` tokens; steps of at most `max_tokens`.
  static Result<PieceRunner> create(const Model& model, Stream& stream, int64_t sequences, int64_t length,
                                   int64_t max_tokens, DType cache_type) {
    PieceRunner runner(model, stream, sequences, ceil_div(length, kBlockSize));
    const StepLimits limits{.max_tokens = max_tokens, .max_logit_rows = max_tokens};
    const KvShape shape = model.kv_shape();
    const int64_t blocks = sequences * runner.blocks_per_sequence_;
    const int64_t layer_bytes =
        blocks * kv_cache_block_bytes(cache_type, kBlockSize, shape.kv_heads, shape.head_size);
    CRIBLE_RETURN_IF_ERROR(stream.reserve_scratch(model.scratch_bytes(limits, stream.threads())));
    CRIBLE_TRY(runner.arena_, Buffer::allocate(model.arena_bytes(limits)));
    CRIBLE_TRY(runner.logits_, Buffer::allocate(max_tokens * model.info().vocabulary * 4));
    CRIBLE_TRY(runner.cache_, Buffer::allocate(shape.layers * layer_bytes));
    for (int64_t layer = 0; layer < shape.layers; ++layer) {
      std::byte* k = runner.cache_.as<std::byte>() + layer * layer_bytes;
      runner.layers_.push_back({.k = k, .v = k + layer_bytes / 2, .dtype = cache_type, .num_blocks = blocks,
                                .block_size = kBlockSize, .kv_heads = shape.kv_heads,
                                .head_size = shape.head_size});
    }
    return runner;
  }

  // One step over all tokens of the pieces. Gives the logits after every token, row by row in the order
  // of the pieces, valid until the next step.
  std::span<const float> step(std::span<const Piece> pieces) {
    std::vector<TokenId> ids;
    std::vector<int32_t> positions, query_start = {0}, context, table;
    std::vector<int64_t> slots;
    for (const Piece& piece : pieces) {
      const int32_t* blocks = table_.data() + piece.sequence * blocks_per_sequence_;
      for (size_t i = 0; i < piece.tokens.size(); ++i) {
        const int64_t position = piece.first + static_cast<int64_t>(i);
        ids.push_back(piece.tokens[i]);
        positions.push_back(static_cast<int32_t>(position));
        slots.push_back(blocks[position / kBlockSize] * kBlockSize + position % kBlockSize);
      }
      query_start.push_back(static_cast<int32_t>(ids.size()));
      context.push_back(positions.back() + 1);
      table.insert(table.end(), blocks, blocks + blocks_per_sequence_);
    }
    std::vector<int32_t> rows(ids.size());
    std::iota(rows.begin(), rows.end(), 0);
    const auto tokens = static_cast<int64_t>(ids.size());
    const BatchView batch{.num_tokens = tokens, .num_sequences = static_cast<int64_t>(pieces.size()),
                          .block_size = kBlockSize, .block_table_stride = blocks_per_sequence_,
                          .token_ids = ids.data(), .positions = positions.data(), .slot_mapping = slots.data(),
                          .query_start = query_start.data(), .context_length = context.data(),
                          .block_table = table.data(), .num_logit_rows = tokens, .logit_rows = rows.data()};
    model_->forward(*stream_, batch, {.cache = layers_,
                                      .arena = {arena_.as<std::byte>(), static_cast<size_t>(arena_.bytes())},
                                      .logits = logits_.as<float>()});
    stream_->synchronize();
    return {logits_.as<float>(), static_cast<size_t>(tokens * model_->info().vocabulary)};
  }

 private:
  PieceRunner(const Model& model, Stream& stream, int64_t sequences, int64_t blocks_per_sequence)
      : model_(&model), stream_(&stream), blocks_per_sequence_(blocks_per_sequence),
        table_(static_cast<size_t>(sequences * blocks_per_sequence)) {
    std::iota(table_.begin(), table_.end(), 0);
    std::shuffle(table_.begin(), table_.end(), std::mt19937(3));
  }

  const Model* model_;
  Stream* stream_;
  int64_t blocks_per_sequence_;
  std::vector<int32_t> table_;  // [sequences, blocks_per_sequence]
  Buffer arena_, logits_, cache_;
  std::vector<KvCacheView> layers_;
};

}  // namespace crible
