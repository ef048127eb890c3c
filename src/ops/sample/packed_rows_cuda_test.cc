#include "ops/sample/packed_rows_cuda.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "ops/sample/sample_cuda.h"

namespace crible::cuda {
namespace {

constexpr int64_t kVocabulary = 100;

std::vector<uint64_t> room_for(int64_t rows, int64_t list_bytes) {
  return std::vector<uint64_t>(
      static_cast<size_t>((packed_rows_bytes(rows, kVocabulary, list_bytes) + 7) / 8), 0);
}
std::span<std::byte> bytes_of(std::vector<uint64_t>& room) {
  return std::as_writable_bytes(std::span(room));
}

TEST(PackedRows, KeepsEveryParameter) {
  const std::vector<crible::SampleRow> rows = {{.temperature = 0.5f,
                                                .min_p = 0.1f,
                                                .typical_p = 0.2f,
                                                .top_p = 0.3f,
                                                .top_k = 4,
                                                .seed = 5,
                                                .position = 6,
                                                .logprobs = 7,
                                                .given = 8},
                                               {}};
  std::vector<uint64_t> room = room_for(2, 0);
  const PackedRows packed = pack_rows(rows, {}, kVocabulary, bytes_of(room));
  EXPECT_EQ(packed.rows, 2);
  EXPECT_EQ(packed.bytes, 2 * static_cast<int64_t>(sizeof(SampleRow)))
      << "rows without adjustments are sent alone";
  const auto* row = reinterpret_cast<const SampleRow*>(room.data());
  EXPECT_EQ(row[0].temperature, 0.5f);
  EXPECT_EQ(row[0].min_p, 0.1f);
  EXPECT_EQ(row[0].typical_p, 0.2f);
  EXPECT_EQ(row[0].top_p, 0.3f);
  EXPECT_EQ(row[0].top_k, 4);
  EXPECT_EQ(row[0].seed, 5u);
  EXPECT_EQ(row[0].position, 6);
  EXPECT_EQ(row[0].logprobs, 7);
  EXPECT_EQ(row[0].given, 8);
  EXPECT_EQ(row[1].logprobs, kNoLogprobs);
  EXPECT_EQ(row[1].given, -1);
  EXPECT_TRUE(row[0].lists.empty() && row[1].lists.empty());
}

TEST(PackedRows, ListsFollowInTheOrderInWhichTheyApply) {
  const std::vector<uint32_t> allowed = {1, 2, 3, 4};
  const std::vector<TokenId> forbidden = {11, 12, 13};
  const std::vector<AddedLogit> bias = {{21, 1.5f}}, dry = {{41, -2.0f}, {42, -3.0f}};
  const std::vector<TokenCount> seen = {{31, 7}, {32, 0}};
  const LogitAdjustments adjustments = {.allowed = allowed,
                                        .forbidden = forbidden,
                                        .bias = bias,
                                        .seen = seen,
                                        .repetition_penalty = 1.1f,
                                        .frequency_penalty = 0.2f,
                                        .presence_penalty = 0.3f,
                                        .dry = dry};
  const LogitAdjustments other = {.forbidden = forbidden};
  const std::vector<crible::SampleRow> rows = {{.adjustments = &other}, {}, {.adjustments = &adjustments}};
  std::vector<uint64_t> room = room_for(3, 0);
  const PackedRows packed = pack_rows(rows, {}, kVocabulary, bytes_of(room));
  EXPECT_EQ(packed.rows, 3);
  EXPECT_EQ(packed.bytes, packed.lists_at + 4 * (3 + 4 + 3 + 2 + 4 + 4));
  const auto* row = reinterpret_cast<const SampleRow*>(room.data());
  const auto* words = reinterpret_cast<const uint32_t*>(bytes_of(room).data() + packed.lists_at);
  EXPECT_EQ(row[0].lists.first, 0);
  EXPECT_EQ(row[0].lists.forbidden, 3);
  EXPECT_TRUE(row[1].lists.empty());
  const RowLists& lists = row[2].lists;
  EXPECT_EQ(lists.first, 3);
  EXPECT_EQ(lists.mask_words, 4);
  EXPECT_EQ(lists.forbidden, 3);
  EXPECT_EQ(lists.bias, 1);
  EXPECT_EQ(lists.seen, 2);
  EXPECT_EQ(lists.dry, 2);
  EXPECT_EQ(lists.repetition_penalty, 1.1f);
  EXPECT_EQ(lists.frequency_penalty, 0.2f);
  EXPECT_EQ(lists.presence_penalty, 0.3f);
  const auto bits = [](float x) { return std::bit_cast<uint32_t>(x); };
  const std::vector<uint32_t> expected = {1,  2, 3,  4, 11, 12,          13, 21,         bits(1.5f),
                                          31, 7, 32, 0, 41, bits(-2.0f), 42, bits(-3.0f)};
  EXPECT_EQ(std::vector<uint32_t>(words + 3, words + 3 + expected.size()), expected);
}

TEST(PackedRows, AHistoryThatTheDeviceHasIsLeftOut) {
  const std::vector<TokenId> forbidden = {11};
  const std::vector<TokenCount> seen = {{31, 7}, {32, 0}};
  const std::vector<AddedLogit> dry = {{41, -2.0f}};
  const LogitAdjustments adjustments = {.forbidden = forbidden, .seen = seen, .repetition_penalty = 1.5f, .dry = dry};
  const std::vector<crible::SampleRow> rows(2, {.adjustments = &adjustments});
  const std::vector<HistoryPlace> places = {{.slot = 5, .kept = true}, {.slot = 0, .kept = false}};
  std::vector<uint64_t> room = room_for(2, 0);
  const PackedRows packed = pack_rows(rows, places, kVocabulary, bytes_of(room));
  EXPECT_EQ(packed.bytes, packed.lists_at + 4 * ((1 + 2) + (1 + 4 + 2)));
  const auto* row = reinterpret_cast<const SampleRow*>(room.data());
  EXPECT_EQ(row[0].lists.slot, 5);
  EXPECT_EQ(row[0].lists.kept, 1);
  EXPECT_EQ(row[0].lists.seen, 0);
  EXPECT_EQ(row[0].lists.dry, 1);
  EXPECT_EQ(row[0].lists.repetition_penalty, 1.5f);
  EXPECT_EQ(row[1].lists.slot, 0);
  EXPECT_EQ(row[1].lists.kept, 0);
  EXPECT_EQ(row[1].lists.seen, 2);
  EXPECT_EQ(row[1].lists.first, 3);
}

// Its slot alone makes it a row whose logits change.
TEST(PackedRows, AKeptHistoryIsNotEmpty) {
  const LogitAdjustments adjustments = {.repetition_penalty = 2};
  const std::vector<crible::SampleRow> rows = {{.adjustments = &adjustments}};
  const std::vector<HistoryPlace> places = {{.slot = 0, .kept = true}};
  std::vector<uint64_t> room = room_for(1, 0);
  pack_rows(rows, places, kVocabulary, bytes_of(room));
  EXPECT_FALSE(reinterpret_cast<const SampleRow*>(room.data())->lists.empty());
}

TEST(PackedRows, StopsWhereTheRoomEndsButAlwaysTakesOne) {
  std::vector<TokenCount> seen;
  for (TokenId id = 0; id < kVocabulary; ++id) seen.push_back({id, 1});
  const LogitAdjustments adjustments = {.seen = seen};
  const std::vector<crible::SampleRow> rows(9, {.adjustments = &adjustments});
  // Room for the largest row is that of 3.5 of these.
  std::vector<uint64_t> room = room_for(9, 0);
  int64_t first = 0;
  int rounds = 0;
  while (first < std::ssize(rows)) {
    const PackedRows packed =
        pack_rows(std::span(rows).subspan(static_cast<size_t>(first)), {}, kVocabulary, bytes_of(room));
    ASSERT_GE(packed.rows, 1);
    ASSERT_LE(packed.bytes, std::ssize(bytes_of(room)));
    first += packed.rows;
    ++rounds;
  }
  EXPECT_GT(rounds, 1);
  std::vector<uint64_t> ample = room_for(9, 9 * 8 * kVocabulary);
  EXPECT_EQ(pack_rows(rows, {}, kVocabulary, bytes_of(ample)).rows, 9);
}

}  // namespace
}  // namespace crible::cuda
