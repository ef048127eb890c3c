#include "ops/attention/attention_cuda.h"

#include "ops/attention/fixed_schedule_cuda.h"
#include "ops/attention/paged_gpu_case.h"

namespace crible::cuda {
namespace {

AttentionShape shape_of(int64_t heads, int64_t kv_heads, int64_t head_size) {
  return {.heads = heads,
          .kv_heads = kv_heads,
          .head_size = head_size,
          .block_size = 16,
          .scale = 1.0f / std::sqrt(static_cast<float>(head_size))};
}

class AttentionCuda : public GpuTest {
 protected:
  // With both types of cache, by every kernel that may be chosen.
  void check(RandomValues& random, const AttentionShape& shape, const std::vector<SequenceLengths>& lengths,
             bool graph) {
    for (const KvType type : {KvType::kBf16, KvType::kFp8}) {
      for (const bool fixed : {false, true}) {
        check(random, shape, lengths, graph, {.kv_type = type, .fixed = fixed, .direct_decode = false});
        if (fixed) continue;
        for (const PromptKernel prompts :
             {PromptKernel::kFlash2, PromptKernel::kFlash3, PromptKernel::kOwn}) {
          check(random, shape, lengths, graph,
                {.kv_type = type, .max_widened_blocks = type == KvType::kFp8 ? 512 : 0, .prompts = prompts});
        }
      }
    }
  }
  void check(RandomValues& random, const AttentionShape& shape, const std::vector<SequenceLengths>& lengths,
             bool graph, const AttentionOptions& options) {
    const PagedGpuCase c(random, shape, lengths, options.kv_type);
    const PagedGpuArrays arrays(c);
    const int64_t width = shape.heads * shape.head_size,
                  stride = width + 2 * shape.kv_heads * shape.head_size;
    const Bf16s q = random_bf16(random, c.tokens * stride);
    std::vector<double> dense;
    for (int64_t t = 0; t < c.tokens; ++t) {
      for (int64_t i = 0; i < width; ++i) dense.push_back(exact(q[static_cast<size_t>(t * stride + i)]));
    }
    const auto q_device = to_device(q);
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(c.tokens * width));
    PagedAttention attention =
        PagedAttention::create(shape, {c.tokens, static_cast<int64_t>(lengths.size())}, options).value();
    const Status planned = attention.plan(stream(), {.num_sequences = static_cast<int64_t>(lengths.size()),
                                                     .query_start = c.query_start.data(),
                                                     .kv_start = c.kv_start.data(),
                                                     .context_length = c.context_length.data(),
                                                     .graph = graph});
    ASSERT_TRUE(planned) << planned.error().message;
    const AttentionBatch batch = {.query_start = arrays.query_start.data(),
                                  .kv_start = arrays.kv_start.data(),
                                  .kv_blocks = arrays.kv_blocks.data(),
                                  .last_block_tokens = arrays.last_block_tokens.data()};
    ASSERT_TRUE(
        attention.run(stream(), q_device.data(), stride, batch, c.view(arrays.cache.data()), out.data()));
    finish();
    // The weights are rounded to BF16 before they meet the values, and the result once more.
    // Values widened from FP8 are rounded to BF16 once more where their scale is not a power of two.
    const double bound = (options.max_widened_blocks > 0 ? 2.5 : 1.5) * kBf16Epsilon;
    EXPECT_LE(relative_distance(to_doubles(out.host()), c.attention(dense)), bound)
        << (options.kv_type == KvType::kFp8 ? "FP8" : "BF16") << (options.fixed ? ", fixed" : "")
        << ", kernel of prompts " << static_cast<int>(options.prompts) << ", first context "
        << lengths[0].context;
  }
};

// Where the queries of one sequence are computed: at once, or in pieces, each in a step with others.
class AttentionInPieces {
 public:
  AttentionInPieces(RandomValues& random, const AttentionShape& shape, KvType type, int64_t context)
      : case_(random, shape, {{context, context}, {77, 77}, {300, 300}}, type),
        arrays_(case_),
        q_(to_device(random_bf16(random, case_.tokens * shape.heads * shape.head_size))),
        attention_(
            PagedAttention::create(shape, {case_.tokens, 3}, {.kv_type = type, .fixed = true}).value()) {}

  struct Piece {
    size_t sequence;
    int64_t begin, end;
  };
  // Results of the pieces' queries, [queries, heads · head_size] one after the other.
  Bf16s run(CudaStream& stream, const std::vector<Piece>& pieces) {
    std::vector<int32_t> query_start = {0}, kv_start = {0}, blocks, last, context;
    Bf16s q;
    const Bf16s all = q_.host();
    const int64_t width = case_.shape.heads * case_.shape.head_size;
    for (const Piece& piece : pieces) {
      const int64_t listed = ceil_div(piece.end, case_.shape.block_size);
      const auto first = case_.kv_blocks.begin() + case_.kv_start[piece.sequence];
      blocks.insert(blocks.end(), first, first + listed);
      kv_start.push_back(static_cast<int32_t>(blocks.size()));
      last.push_back(static_cast<int32_t>(piece.end - (listed - 1) * case_.shape.block_size));
      context.push_back(static_cast<int32_t>(piece.end));
      query_start.push_back(query_start.back() + static_cast<int32_t>(piece.end - piece.begin));
      const auto row = all.begin() + case_.query_start[piece.sequence] * width;
      q.insert(q.end(), row + piece.begin * width, row + piece.end * width);
    }
    const auto query_start_device = to_device(query_start), kv_start_device = to_device(kv_start);
    const auto blocks_device = to_device(blocks), last_device = to_device(last);
    const auto q_device = to_device(q);
    const DeviceArray<__nv_bfloat16> out(q.size());
    CHECK(attention_.plan(stream, {.num_sequences = static_cast<int64_t>(pieces.size()),
                                   .query_start = query_start.data(),
                                   .kv_start = kv_start.data(),
                                   .context_length = context.data()}));
    CHECK(attention_.run(stream, q_device.data(), width,
                         {.query_start = query_start_device.data(),
                          .kv_start = kv_start_device.data(),
                          .kv_blocks = blocks_device.data(),
                          .last_block_tokens = last_device.data()},
                         case_.view(arrays_.cache.data()), out.data()));
    CHECK(stream.synchronize());
    return out.host();
  }
  int64_t row_bytes() const { return case_.shape.heads * case_.shape.head_size * 2; }

 private:
  PagedGpuCase case_;
  PagedGpuArrays arrays_;
  DeviceArray<__nv_bfloat16> q_;
  PagedAttention attention_;
};

TEST_F(AttentionCuda, FixedTilesGiveTheSameBitsInEveryStep) {
  RandomValues random(5);
  for (const KvType type : {KvType::kBf16, KvType::kFp8}) {
    for (const AttentionShape& shape : {shape_of(8, 2, 128), shape_of(7, 1, 64)}) {
      constexpr int64_t kContext = 700;
      AttentionInPieces pieces(random, shape, type, kContext);
      const Bf16s whole = pieces.run(stream(), {{0, 0, kContext}});
      int64_t different = 0;
      // Row 0 of `result` is position `begin`.
      const auto compare = [&](const Bf16s& result, int64_t skipped, int64_t begin, int64_t end) {
        const auto* got = reinterpret_cast<const std::byte*>(result.data()) + skipped * pieces.row_bytes();
        const auto* wanted = reinterpret_cast<const std::byte*>(whole.data());
        for (int64_t p = begin; p < end; ++p, got += pieces.row_bytes()) {
          const auto bytes = static_cast<size_t>(pieces.row_bytes());
          different += std::memcmp(got, wanted + p * pieces.row_bytes(), bytes) != 0 ? 1 : 0;
        }
      };
      for (const int64_t p : {0, 1, 15, 16, 63, 64, 65, 127, 128, 300, 511, 640, 699}) {
        compare(pieces.run(stream(), {{0, p, p + 1}}), 0, p, p + 1);
        compare(pieces.run(stream(), {{1, 30, 31}, {0, p, p + 1}, {2, 0, 300}}), 1, p, p + 1);
      }
      for (int round = 0; round < 12; ++round) {
        const int64_t begin = random.integer(0, kContext - 2);
        const int64_t end = random.integer(begin + 2, kContext);
        compare(pieces.run(stream(), {{1, 5, 6}, {0, begin, end}, {2, 100, 170}}), 1, begin, end);
        compare(pieces.run(stream(), {{2, 0, 2}, {0, begin, begin + 2}}), 2, begin, begin + 2);
      }
      EXPECT_EQ(different, 0) << (type == KvType::kFp8 ? "FP8" : "BF16") << ", heads of " << shape.head_size;
    }
  }
}

TEST(FixedSchedule, CoversEveryTileOnceAndLateOnesFirst) {
  const AttentionShape shape = shape_of(8, 2, 128);
  const std::vector<int32_t> singles = {3, 4, 5, 6}, mixed = {0, 1, 41, 81};
  EXPECT_EQ(fixed_tile_rows(shape, KvType::kBf16, singles), 16);
  EXPECT_EQ(fixed_tile_rows(shape, KvType::kFp8, singles), 64);
  EXPECT_EQ(fixed_tile_rows(shape, KvType::kBf16, mixed), 128);
  ASSERT_EQ(count_fixed_tiles(shape, 64, mixed), 1 + 3 + 3);
  std::vector<int32_t> sequences(7, -1), tiles(7, -1);
  fill_fixed_schedule(shape, 64, mixed, {.sequences = sequences, .tiles = tiles});
  EXPECT_EQ(sequences, (std::vector<int32_t>{0, 1, 1, 1, 2, 2, 2}));
  EXPECT_EQ(tiles, (std::vector<int32_t>{0, 2, 1, 0, 2, 1, 0}));
}

TEST_F(AttentionCuda, DecodesAgreeWithFloat64) {
  RandomValues random(1);
  for (const AttentionShape& shape : {shape_of(32, 8, 128), shape_of(9, 3, 64), shape_of(14, 2, 64)}) {
    for (const bool graph : {false, true}) {
      check(random, shape, {{1, 1}}, graph);
      check(random, shape, {{1000, 1}}, graph);
      check(random, shape, {{17, 1}, {1, 1}, {16, 1}, {300, 1}, {64, 1}}, graph);
    }
  }
}

TEST_F(AttentionCuda, ManyDecodesAgreeWithFloat64) {
  RandomValues random(6);
  for (const KvType type : {KvType::kBf16, KvType::kFp8}) {
    for (const AttentionShape& shape : {shape_of(16, 2, 128), shape_of(3, 3, 64), shape_of(7, 1, 128),
                                        shape_of(8, 4, 64), shape_of(9, 3, 128), shape_of(20, 4, 64)}) {
      for (const int count : {1, 3, 60}) {
        std::vector<SequenceLengths> lengths;
        for (int i = 0; i < count; ++i) lengths.push_back({random.integer(1, 200), 1});
        check(random, shape, lengths, true, {.kv_type = type});
      }
      // One context is cut into many stretches, others lie in one together.
      check(random, shape, {{3000, 1}, {15, 1}, {16, 1}, {1, 1}, {1025, 1}}, true, {.kv_type = type});
    }
  }
}

// The blocks of the grid that share a head arrive in any order, and find their counters as they were.
TEST_F(AttentionCuda, ManyDecodesGiveTheSameBitsEveryTime) {
  RandomValues random(7);
  const AttentionShape shape = shape_of(32, 8, 128);
  for (const KvType type : {KvType::kBf16, KvType::kFp8}) {
    std::vector<SequenceLengths> lengths;
    for (int i = 0; i < 30; ++i) lengths.push_back({random.integer(1, 500), 1});
    const PagedGpuCase c(random, shape, lengths, type);
    const PagedGpuArrays arrays(c);
    const int64_t width = shape.heads * shape.head_size;
    const auto q = to_device(random_bf16(random, c.tokens * width));
    PagedAttention attention = PagedAttention::create(shape, {c.tokens, 30}, {.kv_type = type}).value();
    ASSERT_TRUE(attention.plan(stream(), {.num_sequences = 30,
                                          .query_start = c.query_start.data(),
                                          .kv_start = c.kv_start.data(),
                                          .context_length = c.context_length.data(),
                                          .graph = true}));
    Bf16s first;
    for (int round = 0; round < 50; ++round) {
      const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(c.tokens * width));
      ASSERT_TRUE(attention.run(stream(), q.data(), width,
                                {.query_start = arrays.query_start.data(),
                                 .kv_start = arrays.kv_start.data(),
                                 .kv_blocks = arrays.kv_blocks.data(),
                                 .last_block_tokens = arrays.last_block_tokens.data()},
                                c.view(arrays.cache.data()), out.data()));
      finish();
      const Bf16s result = out.host();
      if (round == 0) first = result;
      ASSERT_EQ(0, std::memcmp(result.data(), first.data(), result.size() * sizeof(__nv_bfloat16))) << round;
    }
  }
}

TEST_F(AttentionCuda, PromptsAndChunksAgreeWithFloat64) {
  RandomValues random(2);
  for (const AttentionShape& shape : {shape_of(8, 2, 128), shape_of(6, 2, 64)}) {
    check(random, shape, {{5, 5}}, false);
    check(random, shape, {{130, 130}, {200, 70}}, false);
    check(random, shape, {{600, 40}}, false);
  }
}

TEST_F(AttentionCuda, LongPromptsTakeTheOtherKernelAndAgree) {
  RandomValues random(3);
  check(random, shape_of(4, 2, 128), {{300, 300}, {500, 260}, {333, 20}}, false);
}

// Contexts of every place in a tile of keys and in a block, heads of every group, prompts that are cut and
// not.
TEST_F(AttentionCuda, TheOwnKernelOfPromptsAgreesWithFloat64) {
  RandomValues random(8);
  for (const AttentionShape& shape : {shape_of(8, 2, 128), shape_of(14, 2, 64), shape_of(3, 3, 128),
                                      shape_of(16, 1, 64), shape_of(10, 2, 128)}) {
    for (const KvType type : {KvType::kBf16, KvType::kFp8}) {
      const AttentionOptions options = {.kv_type = type,
                                        .max_widened_blocks = type == KvType::kFp8 ? 1024 : 0,
                                        .prompts = PromptKernel::kOwn};
      check(random, shape, {{2, 2}}, false, options);
      check(random, shape, {{129, 129}}, false, options);
      check(random, shape, {{3000, 17}}, false, options);
      check(random, shape, {{1, 1}, {700, 1}, {128, 2}, {255, 40}, {256, 3}, {1500, 40}, {31, 31}}, false,
            options);
      std::vector<SequenceLengths> lengths;
      for (int i = 0; i < 6; ++i) {
        const int64_t context = random.integer(2, 600);
        lengths.push_back({context, random.integer(2, std::min<int64_t>(context, 70))});
      }
      check(random, shape, lengths, false, options);
    }
  }
}

TEST_F(AttentionCuda, AMixedBatchAgrees) {
  RandomValues random(4);
  check(random, shape_of(4, 2, 128), {{40, 1}, {333, 1}, {300, 300}, {90, 30}}, false);
  check(random, shape_of(4, 2, 64), {{40, 1}, {333, 1}, {900, 3}}, false);  // the chunk's context is split
  check(random, shape_of(4, 2, 128), {{40, 1}, {333, 1}, {9, 5}, {30, 20}}, false);  // it is not
}

TEST_F(AttentionCuda, AnUnsupportedHeadSizeIsRefused) {
  const auto attention = PagedAttention::create(shape_of(4, 2, 96), {1, 1});
  ASSERT_FALSE(attention);
  EXPECT_EQ(attention.error().code, ErrorCode::kUnsupported);
}

}  // namespace
}  // namespace crible::cuda
