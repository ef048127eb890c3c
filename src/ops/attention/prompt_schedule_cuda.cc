#include "ops/attention/prompt_schedule_cuda.h"

#include <algorithm>

#include "base/units.h"

namespace crible::cuda {
namespace {

// What a unit costs beside its tiles of keys, in tiles: its queries' way in and its results' way out.
constexpr int64_t kUnitCost = 1;
// Fewer are not worth a part of their own: leaving and merging it costs as much.
constexpr int64_t kLeastTiles = 6;

int32_t query_tiles(const AttentionShape& shape, int32_t queries) {
  return static_cast<int32_t>(ceil_div(queries * (shape.heads / shape.kv_heads), int64_t{kPromptTileRows}));
}

// Hands out the units in order; a block is full where its equal stretch of the whole cost ends.
class Cutter {
 public:
  Cutter(int64_t total, int blocks, PromptSchedule* schedule) : total_(total), blocks_(blocks), s_(schedule) {
    s_->start.assign(1, 0);
    s_->units.clear();
    s_->merges.clear();
    s_->parts = 0;
  }
  // The unit's range of keys and its part are filled in here.
  void add(PromptUnit unit, int32_t key_tiles) {
    position_ += kUnitCost;
    const size_t first = s_->units.size();
    for (int32_t begin = 0; begin < key_tiles;) {
      const int64_t left = key_tiles - begin;
      const int64_t room = total_ * (block_ + 1) / blocks_ - position_;
      const bool all = block_ + 1 == blocks_ || left < room + kLeastTiles;
      if (!all && room < kLeastTiles) {
        next_block();
        continue;
      }
      const int32_t end = all ? key_tiles : begin + static_cast<int32_t>(room);
      unit.key_begin = begin;
      unit.key_end = end;
      unit.part = -1;
      s_->units.push_back(unit);
      position_ += end - begin;
      begin = end;
      if (!all) next_block();
    }
    if (s_->units.size() - first == 1) return;
    const auto parts = static_cast<int32_t>(s_->units.size() - first);
    s_->merges.push_back({unit.first_query, unit.queries, unit.tile, unit.kv_head, s_->parts, parts});
    for (size_t i = first; i < s_->units.size(); ++i) s_->units[i].part = s_->parts++;
  }
  void finish() {
    while (block_ < blocks_) next_block();
  }

 private:
  void next_block() {
    s_->start.push_back(static_cast<int32_t>(s_->units.size()));
    ++block_;
  }

  int64_t total_;
  int64_t blocks_;
  PromptSchedule* s_;
  int64_t block_ = 0;
  int64_t position_ = 0;
};

}  // namespace

int32_t visible_key_tiles(const AttentionShape& shape, int32_t queries, int32_t context, int32_t tile) {
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t rows = std::min<int64_t>(int64_t{tile + 1} * kPromptTileRows, queries * group);
  const int64_t last_query = (rows - 1) / group;
  return static_cast<int32_t>(ceil_div(context - queries + last_query + 1, int64_t{kPromptTileKeys}));
}

// KV head by KV head, and the longest tiles first, so that blocks which run side by side read the same keys.
void plan_prompts(const AttentionShape& shape, const PromptSequences& sequences, int blocks,
                  PromptSchedule* schedule) {
  const auto for_tiles = [&](auto&& visit) {
    for (size_t s = 0; s < sequences.context_length.size(); ++s) {
      const int32_t first = sequences.query_start[s];
      const int32_t queries = sequences.query_start[s + 1] - first;
      const int32_t context = sequences.context_length[s];
      for (int32_t tile = query_tiles(shape, queries); tile-- > 0;) {
        visit(PromptUnit{.first_query = first,
                         .queries = queries,
                         .context = context,
                         .first_block = sequences.kv_start[s],
                         .tile = tile},
              visible_key_tiles(shape, queries, context, tile));
      }
    }
  };
  int64_t of_head = 0;
  for_tiles([&](const PromptUnit&, int32_t key_tiles) { of_head += key_tiles + kUnitCost; });
  Cutter cutter(of_head * shape.kv_heads, blocks, schedule);
  for (int32_t head = 0; head < shape.kv_heads; ++head) {
    for_tiles([&](PromptUnit unit, int32_t key_tiles) {
      unit.kv_head = head;
      cutter.add(unit, key_tiles);
    });
  }
  cutter.finish();
}

}  // namespace crible::cuda
