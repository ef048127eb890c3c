// Work is cut into units: one KV head of a few consecutive query tokens of one sequence, so that
// all query heads of the group share each converted tile of keys and values. A unit walks what it sees
// in chunks of 256 keys at absolute positions; each chunk is an online softmax over tiles
// of 32 keys, and chunks are merged in ascending order. When there are fewer units than threads can
// use (decode of few sequences), chunks become tasks of their own and are merged afterwards: the same
// chunks, the same merges, the same bits.
#include "ops/attention/attention.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/units.h"
#include "device/cpu/thread_pool.h"
#include "ops/attention/attention_kernels.h"
#include "ops/exponential.h"

namespace crible {
namespace {

constexpr int64_t kRowsPerUnit = 96;
// Up to as many rows it costs less to convert keys and values once per piece of rows than to store them.
constexpr int64_t kRowsOnCache = 8;
constexpr int64_t kKeyChunk = 256;
constexpr int64_t kUnitsPerThread = 4;
// Room for the chunk results of split units; with more work than this there is no need to split.
constexpr int64_t kPartialFloats = 1 << 20;
constexpr int64_t kAlign = 64;

struct Unit {
  int32_t sequence;
  int32_t kv_head;
  int32_t token_begin;  // query tokens of the batch
  int32_t token_end;
};
struct Piece {
  int32_t unit;
  int32_t chunk;
  int64_t offset;  // of its state among the partial floats
};

// Softmax state of a unit's rows: over one chunk, or merged over several.
struct RowState {
  float* maximum;  // [rows]
  float* sum;      // [rows, kSumLanes]; lane 0 alone once reduced
  float* out;      // [rows, head_size]

  static int64_t floats(int64_t rows, int64_t head_size) {
    return round_up(rows, 16) + rows * (kSumLanes + head_size);
  }
  static RowState at(float* memory, int64_t rows) {
    float* sum = memory + round_up(rows, 16);
    return {memory, sum, sum + rows * kSumLanes};
  }
};

int64_t tokens_per_unit(int64_t group) { return std::max<int64_t>(1, kRowsPerUnit / group); }

// Per thread: the tile of keys and values, the scaled queries, the scores, one chunk's state and the total's.
int64_t thread_floats(int64_t max_rows, int64_t head_size) {
  return round_up(2 * kKeyTile * head_size + max_rows * (head_size + kKeyTile) +
                      2 * RowState::floats(max_rows, head_size),
                  16);
}

const CacheKernels& kernels_of(const AttentionKernels& kernels, DType dtype) {
  switch (dtype) {
    case DType::kF32: return kernels.f32;
    case DType::kF16: return kernels.f16;
    case DType::kBF16: return kernels.bf16;
    case DType::kI8: return kernels.i8;
    default: break;
  }
  CHECK(false, "no KV cache of type {}", dtype_name(dtype));
  return kernels.f32;
}

struct Call {
  const BatchView& batch;
  const AttentionArgs& args;
  const AttentionKernels& kernels;
  const CacheKernels& cache_kernels;
  int64_t group;     // query heads per KV head
  int64_t max_rows;  // of a unit

  int64_t rows(const Unit& u) const { return (u.token_end - u.token_begin) * group; }
  // A token sees the keys [first_visible, visible) of its sequence.
  int64_t visible(const Unit& u, int64_t token) const {
    return batch.context_length[u.sequence] - (batch.query_start[u.sequence + 1] - 1 - token);
  }
  int64_t first_visible(const Unit& u, int64_t token) const {
    return args.window == 0 ? 0 : std::max<int64_t>(0, visible(u, token) - args.window);
  }
  // What any token of the unit sees.
  int64_t first_key(const Unit& u) const { return first_visible(u, u.token_begin); }
  int64_t context(const Unit& u) const { return visible(u, u.token_end - 1); }
  int64_t first_chunk(const Unit& u) const { return first_key(u) / kKeyChunk; }
  int64_t end_chunk(const Unit& u) const { return ceil_div(context(u), kKeyChunk); }
  const float* query(const Unit& u, int64_t row) const {
    return args.q + (u.token_begin + row / group) * args.q_stride +
           (u.kv_head * group + row % group) * args.cache.head_size;
  }
  float* output(const Unit& u, int64_t row) const {
    return args.out + (u.token_begin + row / group) * args.out_stride +
           (u.kv_head * group + row % group) * args.cache.head_size;
  }
};

class Worker {
 public:
  Worker(const Call& call, float* memory)
      : call_(call),
        head_size_(call.args.cache.head_size),
        head_bytes_(kv_head_bytes(call.args.cache.dtype, call.args.cache.block_size, head_size_)) {
    k_tile_ = memory;
    v_tile_ = k_tile_ + kKeyTile * head_size_;
    q_ = v_tile_ + kKeyTile * head_size_;
    score_ = q_ + call.max_rows * head_size_;
    float* states = score_ + call.max_rows * kKeyTile;
    chunk_ = RowState::at(states, call.max_rows);
    total_ = RowState::at(states + RowState::floats(call.max_rows, head_size_), call.max_rows);
  }

  // Attends to one chunk; the result is left in `state`, its sums reduced to lane 0.
  void attend_chunk(const Unit& unit, int64_t chunk, const RowState& state) {
    const int64_t rows = call_.rows(unit);
    std::fill_n(state.maximum, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(state.sum, rows * kSumLanes, 0.0f);
    std::fill_n(state.out, rows * head_size_, 0.0f);
    const int64_t end = std::min(call_.context(unit), (chunk + 1) * kKeyChunk);
    const int64_t begin = std::max(call_.first_key(unit) / kKeyTile * kKeyTile, chunk * kKeyChunk);
    KeyTile tile = tile_at(unit, begin);
    for (int64_t key = begin; key < end; key += kKeyTile) {
      const KeyTile next = key + kKeyTile < call_.context(unit) ? tile_at(unit, key + kKeyTile) : tile;
      const bool on_cache = rows <= kRowsOnCache;
      if (!on_cache) call_.cache_kernels.load(tile, k_tile_, v_tile_);
      for_visible_rows(unit, key, state, [&](const AttendArgs& args) {
        if (on_cache) {
          call_.cache_kernels.attend(args, tile, next);
        } else {
          call_.kernels.attend(args, tile, k_tile_, v_tile_);
        }
      });
      tile = next;
    }
    for (int64_t r = 0; r < rows; ++r) {
      float* s = state.sum + r * kSumLanes;
      s[0] = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    }
  }

  void load_queries(const Unit& unit) {
    for (int64_t r = 0; r < call_.rows(unit); ++r) {
      const float* q = call_.query(unit, r);
      for (int64_t d = 0; d < head_size_; ++d) q_[r * head_size_ + d] = q[d] * call_.args.scale;
    }
  }

  // total = total merged with the next chunk's state; rows that see no key of it keep their total.
  void merge(const Unit& unit, int64_t chunk_index, const RowState& chunk) {
    for (int64_t r = 0; r < call_.rows(unit); ++r) {
      const int64_t token = unit.token_begin + r / call_.group;
      const int64_t first = call_.first_visible(unit, token);
      if (call_.visible(unit, token) <= chunk_index * kKeyChunk || first >= (chunk_index + 1) * kKeyChunk) continue;
      float* total = total_.out + r * head_size_;
      const float* part = chunk.out + r * head_size_;
      float& total_sum = total_.sum[r * kSumLanes];
      const float part_sum = chunk.sum[r * kSumLanes];
      if (chunk_index == first / kKeyChunk) {
        total_.maximum[r] = chunk.maximum[r];
        total_sum = part_sum;
        std::memcpy(total, part, static_cast<size_t>(head_size_) * sizeof(float));
        continue;
      }
      const float maximum = std::max(total_.maximum[r], chunk.maximum[r]);
      const float a = exponential(total_.maximum[r] - maximum);
      const float b = exponential(chunk.maximum[r] - maximum);
      total_.maximum[r] = maximum;
      total_sum = total_sum * a + part_sum * b;
      for (int64_t d = 0; d < head_size_; ++d) total[d] = total[d] * a + part[d] * b;
    }
  }

  void store(const Unit& unit) {
    for (int64_t r = 0; r < call_.rows(unit); ++r) {
      float* out = call_.output(unit, r);
      const float inverse = 1.0f / total_.sum[r * kSumLanes];
      for (int64_t d = 0; d < head_size_; ++d) out[d] = total_.out[r * head_size_ + d] * inverse;
    }
  }

  void whole_unit(const Unit& unit) {
    load_queries(unit);
    for (int64_t chunk = call_.first_chunk(unit); chunk < call_.end_chunk(unit); ++chunk) {
      attend_chunk(unit, chunk, chunk_);
      merge(unit, chunk, chunk_);
    }
    store(unit);
  }

 private:
  KeyTile tile_at(const Unit& unit, int64_t position) const {
    const KvCacheView& cache = call_.args.cache;
    const int64_t element = dtype_block_bytes(cache.dtype);
    const int32_t* table = call_.batch.block_table + unit.sequence * call_.batch.block_table_stride;
    KeyTile tile = {};
    tile.block_size = cache.block_size;
    tile.head_size = head_size_;
    tile.first_group = std::max<int64_t>(0, call_.first_key(unit) - position) / kKeyGroup;
    tile.end_group = ceil_div(std::min(kKeyTile, call_.context(unit) - position), kKeyGroup);
    for (int64_t g = 0; g < kTileGroups; ++g) {
      const int64_t key = position + std::clamp(g, tile.first_group, tile.end_group - 1) * kKeyGroup;
      const int64_t offset = key % cache.block_size;
      const int64_t block = table[key / cache.block_size];
      const int64_t base = (block * cache.kv_heads + unit.kv_head) * head_bytes_;
      const std::byte* k = static_cast<const std::byte*>(cache.k) + base;
      const std::byte* v = static_cast<const std::byte*>(cache.v) + base;
      tile.k[g] = k + offset * element;
      tile.v[g] = v + offset * head_size_ * element;
      if (cache.dtype == DType::kI8) {
        const int64_t scales = cache.block_size * head_size_ + offset * static_cast<int64_t>(sizeof(float));
        tile.k_scale[g] = reinterpret_cast<const float*>(k + scales);
        tile.v_scale[g] = reinterpret_cast<const float*>(v + scales);
      }
    }
    return tile;
  }

  // Rows that see the same keys of the tile go together: most see all; at the context's end and at the
  // window's beginning it is token by token.
  template <typename F>
  void for_visible_rows(const Unit& unit, int64_t first_key, const RowState& state, const F& attend) {
    const int64_t tokens = unit.token_end - unit.token_begin;
    const int64_t visible = call_.visible(unit, unit.token_begin);  // rises by one per token
    int64_t token = std::max<int64_t>(0, first_key + 1 - visible);
    while (token < tokens) {
      const int64_t keys = std::min(kKeyTile, visible + token - first_key);
      const int64_t first =
          std::max<int64_t>(0, call_.first_visible(unit, unit.token_begin + token) - first_key);
      if (first >= kKeyTile) return;
      int64_t count = 1;
      if (keys == kKeyTile && first == 0) {
        count = tokens - token;
        if (call_.args.window != 0) count = std::min(count, first_key + call_.args.window - visible - token + 1);
      }
      const int64_t row = token * call_.group;
      attend({q_ + row * head_size_, count * call_.group, head_size_, first, keys, call_.args.logit_softcap,
              score_, state.maximum + row, state.sum + row * kSumLanes, state.out + row * head_size_});
      token += count;
    }
  }

  const Call& call_;
  const int64_t head_size_;
  const int64_t head_bytes_;
  float* k_tile_;
  float* v_tile_;
  float* q_;
  float* score_;
  RowState chunk_;
  RowState total_;
};

const AttentionKernels& kernels_for(CpuIsa isa, [[maybe_unused]] int64_t head_size) {
#if defined(__x86_64__)
  if (isa >= CpuIsa::kAvx512 && head_size % 16 == 0) return attention_kernels_avx512();
  if (isa >= CpuIsa::kAvx2) return attention_kernels_avx2();
#endif
  return attention_kernels_scalar();
}

struct ScratchLayout {
  int64_t units, pieces, partials, bytes;  // byte offsets after the threads' memory
};
ScratchLayout scratch_layout(int64_t max_units, int64_t max_rows, int64_t head_size, int threads) {
  ScratchLayout layout = {};
  layout.units = round_up(threads * thread_floats(max_rows, head_size) * 4, kAlign);
  layout.pieces = layout.units + round_up(max_units * static_cast<int64_t>(sizeof(Unit)), kAlign);
  const int64_t max_pieces = kPartialFloats / RowState::floats(1, head_size);
  layout.partials = layout.pieces + round_up(max_pieces * static_cast<int64_t>(sizeof(Piece)), kAlign);
  layout.bytes = layout.partials + kPartialFloats * 4;
  return layout;
}

int64_t list_units(const Call& call, Unit* units) {
  const int64_t step = tokens_per_unit(call.group);
  int64_t count = 0;
  for (int64_t s = 0; s < call.batch.num_sequences; ++s) {
    // Later tokens see more keys: the longest units come first, so that none is left over at the end.
    const int64_t begin = call.batch.query_start[s];
    const int64_t tokens = call.batch.query_start[s + 1] - begin;
    for (int64_t tile = ceil_div(tokens, step) - 1; tile >= 0; --tile) {
      for (int64_t h = 0; h < call.args.cache.kv_heads; ++h) {
        units[count++] = {static_cast<int32_t>(s), static_cast<int32_t>(h), static_cast<int32_t>(begin + tile * step),
                          static_cast<int32_t>(begin + std::min(tokens, (tile + 1) * step))};
      }
    }
  }
  return count;
}

// Fills `pieces` with one entry per unit and chunk; 0 if their results do not fit the scratch.
int64_t list_pieces(const Call& call, const Unit* units, int64_t num_units, Piece* pieces) {
  int64_t floats = 0;
  int64_t count = 0;
  for (int64_t u = 0; u < num_units; ++u) {
    const int64_t first = call.first_chunk(units[u]), end = call.end_chunk(units[u]);
    const int64_t state = RowState::floats(call.rows(units[u]), call.args.cache.head_size);
    if (floats + (end - first) * state > kPartialFloats) return 0;
    for (int64_t c = first; c < end; ++c, floats += state) {
      pieces[count++] = {static_cast<int32_t>(u), static_cast<int32_t>(c), floats};
    }
  }
  return count;
}

}  // namespace

int64_t attention_scratch_bytes(int64_t max_tokens, int64_t heads, int64_t head_size, int threads) {
  // The number of KV heads is not known here: with groups of one, units are as many as heads.
  return scratch_layout(max_tokens * heads, std::max(kRowsPerUnit, heads), head_size, threads).bytes;
}

void attention(Stream& stream, const BatchView& batch, const AttentionArgs& args) {
  const KvCacheView& cache = args.cache;
  CHECK(cache.head_size % 8 == 0 && cache.block_size % 8 == 0, "head size {} and block size {} must be multiples of 8",
        cache.head_size, cache.block_size);
  CHECK(args.heads % cache.kv_heads == 0, "{} heads cannot share {} KV heads", args.heads, cache.kv_heads);
  CHECK(args.window >= 0 && args.logit_softcap >= 0, "window {} and soft-cap {} must not be negative", args.window,
        args.logit_softcap);
  if (batch.num_tokens == 0) return;

  const int64_t group = args.heads / cache.kv_heads;
  const AttentionKernels& kernels = kernels_for(stream.isa(), cache.head_size);
  const Call call = {batch, args, kernels, kernels_of(kernels, cache.dtype), group, tokens_per_unit(group) * group};
  const ScratchLayout layout = scratch_layout(batch.num_tokens * args.heads, std::max(kRowsPerUnit, args.heads),
                                              cache.head_size, stream.threads());
  std::byte* scratch = stream.scratch(layout.bytes);
  const auto worker_memory = [&](int thread) {
    return reinterpret_cast<float*>(scratch) + thread * thread_floats(call.max_rows, cache.head_size);
  };
  Unit* units = reinterpret_cast<Unit*>(scratch + layout.units);
  const int64_t num_units = list_units(call, units);

  Piece* pieces = reinterpret_cast<Piece*>(scratch + layout.pieces);
  const bool few = num_units < stream.threads() * kUnitsPerThread && stream.threads() > 1;
  const int64_t num_pieces = few ? list_pieces(call, units, num_units, pieces) : 0;
  if (num_pieces <= num_units) {
    stream.pool().parallel_for(num_units,
                               [&](int64_t u, int thread) { Worker(call, worker_memory(thread)).whole_unit(units[u]); });
    return;
  }

  float* partials = reinterpret_cast<float*>(scratch + layout.partials);
  const auto partial = [&](const Piece& piece) {
    return RowState::at(partials + piece.offset, call.rows(units[piece.unit]));
  };
  stream.pool().parallel_for(num_pieces, [&](int64_t p, int thread) {
    Worker worker(call, worker_memory(thread));
    const Unit& unit = units[pieces[p].unit];
    worker.load_queries(unit);
    worker.attend_chunk(unit, pieces[p].chunk, partial(pieces[p]));
  });
  Worker worker(call, worker_memory(0));
  for (int64_t p = 0; p < num_pieces; ++p) {
    const Unit& unit = units[pieces[p].unit];
    worker.merge(unit, pieces[p].chunk, partial(pieces[p]));
    if (p + 1 == num_pieces || pieces[p + 1].unit != pieces[p].unit) worker.store(unit);
  }
}

}  // namespace crible
