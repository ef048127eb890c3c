#include "study/run/effective_check.h"

#include <gtest/gtest.h>

namespace crible::study {
namespace {

ServerState reporting(std::string effective) {
  ServerState state;
  state.full_report = true;
  state.effective_json = effective;
  state.resolved_json = std::move(effective);
  return state;
}

TEST(EffectiveCheck, EqualValuesAreNoMismatch) {
  const Knobs knobs = {
      {"max-num-seqs", "32"}, {"enable-prefix-caching", "false"}, {"gpu-memory-utilization", "0.9"}};
  EXPECT_TRUE(find_mismatches(knobs, reporting(R"({"max-num-seqs":32,"enable-prefix-caching":false,
      "gpu-memory-utilization":0.9,"block-size":16})"))
                  .empty());
}

TEST(EffectiveCheck, AKnobThatDidNotTakeEffectIsFound) {
  const auto found =
      find_mismatches({{"enable-prefix-caching", "false"}}, reporting(R"({"enable-prefix-caching":true})"));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].requested, "false");
  EXPECT_EQ(found[0].effective, "true");
  EXPECT_EQ(describe(found), "enable-prefix-caching: false asked for, true in effect");
}

TEST(EffectiveCheck, OnlyAnAdjustmentThatSaysExactlyThisExcuses) {
  const Knobs knobs = {{"max-model-len", "0"}};
  ServerState state = reporting(R"({"max-model-len":2048})");
  EXPECT_EQ(find_mismatches(knobs, state).size(), 1u);
  state.adjustments = {{"max-model-len", "0", "1024", "the model's context length"}};
  EXPECT_EQ(find_mismatches(knobs, state).size(), 1u);
  state.adjustments = {{"max-num-seqs", "0", "2048", "another knob"}};
  EXPECT_EQ(find_mismatches(knobs, state).size(), 1u);
  state.adjustments = {{"max-model-len", "0", "2048", ""}};
  EXPECT_EQ(find_mismatches(knobs, state).size(), 1u) << "an adjustment needs a reason";
  state.adjustments = {{"max-model-len", "0", "2048", "the model's context length"}};
  EXPECT_TRUE(find_mismatches(knobs, state).empty());
}

TEST(EffectiveCheck, AnUnreportedKnobIsAMismatchOnlyOfAFullReport) {
  ServerState state = reporting(R"({"block-size":16})");
  EXPECT_EQ(find_mismatches({{"max-num-seqs", "8"}}, state).size(), 1u);
  state.full_report = false;
  EXPECT_TRUE(find_mismatches({{"max-num-seqs", "8"}}, state).empty());
  EXPECT_EQ(unverified_knobs({{"max-num-seqs", "8"}}, state), std::vector<std::string>{"max-num-seqs"});
}

TEST(EffectiveCheck, AServerThatContradictsItself) {
  ServerState state = reporting(R"({"max-num-seqs":8})");
  EXPECT_TRUE(find_contradictions(state).empty());
  state.resolved_json = R"({"max-num-seqs":16})";
  EXPECT_EQ(find_contradictions(state).size(), 1u);
}

TEST(EffectiveRegister, EqualConfigurationsUnderTwoNames) {
  EffectiveRegister seen;
  EXPECT_EQ(seen.conflict("a", R"({"x":1,"y":2})"), std::nullopt);
  EXPECT_EQ(seen.conflict("a", R"({"x":1,"y":2})"), std::nullopt) << "the same configuration again";
  EXPECT_EQ(seen.conflict("b", R"({"x":1,"y":3})"), std::nullopt);
  EXPECT_EQ(seen.conflict("c", R"({"y":2,"x":1})"), "a") << "the order of keys does not matter";
  EXPECT_EQ(seen.drift("a", R"({"x":1,"y":9})").size(), 1u);
  EXPECT_TRUE(seen.drift("a", R"({"x":1,"y":2})").empty());
  EXPECT_EQ(seen.conflict("d", "{}"), std::nullopt) << "nothing reported is no equality";
  EXPECT_EQ(seen.conflict("e", "{}"), std::nullopt);
}

}  // namespace
}  // namespace crible::study
