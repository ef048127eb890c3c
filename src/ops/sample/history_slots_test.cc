#include "ops/sample/history_slots.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <random>

namespace crible {
namespace {

// Rows of sequences that are drawn from; known counts lag behind by one where asked.
class HistorySlotsTest : public ::testing::Test {
 protected:
  struct Asked {
    int64_t sequence;
    int64_t drawn;
    int64_t unknown = 0;
  };

  std::vector<HistoryPlace> place(HistorySlots& slots, const std::vector<Asked>& asked) {
    adjustments_.clear();
    std::vector<SampleRow> rows;
    for (const Asked& a : asked) {
      LogitAdjustments& own = adjustments_.emplace_back();
      own.history = {.sequence = a.sequence, .drawn = a.drawn, .known = a.drawn - a.unknown};
      rows.push_back({.adjustments = &own});
    }
    std::vector<HistoryPlace> places(rows.size(), HistoryPlace{77, true});
    slots.place(rows, places);
    return places;
  }

  std::deque<LogitAdjustments> adjustments_;
};

TEST_F(HistorySlotsTest, AHistoryIsSentOnceAndThenKept) {
  HistorySlots slots(3);
  const auto first = place(slots, {{10, 0}, {11, 0}});
  EXPECT_FALSE(first[0].kept || first[1].kept);
  EXPECT_NE(first[0].slot, first[1].slot);
  const auto second = place(slots, {{11, 1, 1}, {12, 0}, {10, 1, 1}});
  EXPECT_TRUE(second[0].kept && second[2].kept);
  EXPECT_FALSE(second[1].kept);
  EXPECT_EQ(second[0].slot, first[1].slot);
  EXPECT_EQ(second[2].slot, first[0].slot);
}

TEST_F(HistorySlotsTest, RowsWithoutAHistoryHaveNoPlace) {
  HistorySlots slots(1);
  const auto places = place(slots, {{-1, 0}, {4, 0}, {-1, 9}});
  EXPECT_EQ(places[0].slot, -1);
  EXPECT_EQ(places[1].slot, 0);
  EXPECT_EQ(places[2].slot, -1);
  EXPECT_FALSE(places[0].kept || places[2].kept);
  std::vector<HistoryPlace> plain(1, HistoryPlace{77, true});
  slots.place(std::vector<SampleRow>(1), plain);
  EXPECT_EQ(plain[0].slot, -1);
}

TEST_F(HistorySlotsTest, WithoutSlotsNothingIsKept) {
  HistorySlots slots(0);
  for (int64_t drawn = 0; drawn < 2; ++drawn) {
    const auto places = place(slots, {{1, drawn}});
    EXPECT_EQ(places[0].slot, -1);
    EXPECT_FALSE(places[0].kept);
  }
}

TEST_F(HistorySlotsTest, TheLongestUnusedGivesWayAndComesBackWhole) {
  HistorySlots slots(2);
  const int32_t of_one = place(slots, {{1, 0}})[0].slot;
  place(slots, {{2, 0}});
  place(slots, {{1, 1, 1}});
  // 2 was not drawn from for longer.
  EXPECT_NE(place(slots, {{3, 0}})[0].slot, of_one);
  EXPECT_TRUE(place(slots, {{1, 2}})[0].kept);
  EXPECT_FALSE(place(slots, {{2, 1}})[0].kept);
  EXPECT_TRUE(place(slots, {{2, 2, 1}})[0].kept);
}

// A history that counts other draws than the host is of no use.
TEST_F(HistorySlotsTest, OtherDrawsThanTheHostsAreSentAnew) {
  HistorySlots slots(1);
  place(slots, {{1, 0}});
  EXPECT_FALSE(place(slots, {{1, 5}})[0].kept);
  EXPECT_TRUE(place(slots, {{1, 6}})[0].kept);
}

TEST_F(HistorySlotsTest, NoSequenceOfAStepGivesWayToAnother) {
  std::mt19937_64 random(5);
  constexpr int64_t kSlots = 6, kSequences = 20;
  HistorySlots slots(kSlots);
  std::map<int64_t, int64_t> drawn;
  std::map<int32_t, std::pair<int64_t, int64_t>> content;  // what the device would hold in each slot
  int kept = 0, sent_again = 0;
  for (int step = 0; step < 3000; ++step) {
    std::vector<int64_t> all(kSequences);
    for (int64_t i = 0; i < kSequences; ++i) all[static_cast<size_t>(i)] = i * 1'000'003;
    std::ranges::shuffle(all, random);
    all.resize(random() % (kSlots + 1));
    std::vector<Asked> asked;
    for (const int64_t sequence : all) asked.push_back({sequence, drawn[sequence]});
    const auto places = place(slots, asked);
    std::vector<int32_t> used;
    for (size_t i = 0; i < asked.size(); ++i) {
      const auto [sequence, count, unknown] = asked[i];
      used.push_back(places[i].slot);
      ASSERT_GE(places[i].slot, 0);
      ASSERT_LT(places[i].slot, kSlots);
      if (places[i].kept) {
        ASSERT_EQ(content[places[i].slot], std::pair(sequence, count));
      }
      kept += places[i].kept;
      sent_again += !places[i].kept && count > 0;
      content[places[i].slot] = {sequence, count + 1};
      drawn[sequence] = count + 1;
    }
    std::ranges::sort(used);
    ASSERT_TRUE(std::ranges::adjacent_find(used) == used.end()) << "two rows share a slot";
  }
  EXPECT_GT(kept, 1000);
  EXPECT_GT(sent_again, 1000);
}

TEST_F(HistorySlotsTest, WhatCannotBeSentWholeIsABrokenInvariant) {
  HistorySlots slots(1);
  EXPECT_DEATH(place(slots, {{1, 3, 1}}), "while 1 of its tokens");
  EXPECT_DEATH(place(slots, {{1, 0}, {2, 0}}), "more than 1 histories");
}

}  // namespace
}  // namespace crible
