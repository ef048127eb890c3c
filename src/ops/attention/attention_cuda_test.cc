#include "ops/attention/attention_cuda.h"

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
  void check(RandomValues& random, const AttentionShape& shape, const std::vector<SequenceLengths>& lengths,
             bool graph) {
    const PagedGpuCase c(random, shape, lengths);
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
        PagedAttention::create(shape, {c.tokens, static_cast<int64_t>(lengths.size())}).value();
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
    EXPECT_LE(relative_distance(to_doubles(out.host()), c.attention(dense)), 1.5 * kBf16Epsilon);
  }
};

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
