// The small parts of a run, each against its definition.
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/atomic_file.h"
#include "study/record/knobs.h"
#include "study/run/estimate.h"
#include "study/run/gate.h"
#include "study/run/knob_flags.h"
#include "study/run/progress.h"
#include "study/run/prometheus_text.h"
#include "study/run/sha256.h"
#include "study/run/warm_up.h"

namespace crible::study {
namespace {

TEST(KnobFlags, FalseIsAnExplicitNegative) {
  const Knobs knobs = {
      {"enable-prefix-caching", "false"}, {"enable-chunked-prefill", "true"}, {"max-num-seqs", "32"}};
  EXPECT_EQ(knob_flags(knobs),
            (std::vector<std::string>{"--enable-chunked-prefill", "--no-enable-prefix-caching",
                                      "--max-num-seqs", "32"}));
}

TEST(KnobFlags, EveryKnobOfTheTableHasAFlag) {
  for (const auto& field : engine_fields().fields()) {
    const nlohmann::json value = engine_fields().to_json(EngineConfig{}).at(std::string(field.name));
    const Knobs knobs = {
        {std::string(field.name), value.is_string() ? value.get<std::string>() : value.dump()}};
    const auto flags = knob_flags(knobs);
    ASSERT_FALSE(flags.empty());
    EXPECT_TRUE(flags[0].ends_with(field.name)) << flags[0];
  }
}

TEST(KnobFlags, LiveSettingsCarryDefaultsSoThatNothingStays) {
  const auto settings = nlohmann::json::parse(live_settings_json({{"max-num-seqs", "4"}}));
  EXPECT_EQ(settings["max-num-seqs"], 4);
  EXPECT_EQ(settings["enable-prefix-caching"], EngineConfig{}.enable_prefix_caching);
  EXPECT_FALSE(settings.contains("device-memory-bytes")) << "not a live setting";
}

TEST(KnobFlags, WhatNeedsARestart) {
  EXPECT_TRUE(
      restart_only_differences({{"max-num-seqs", "4"}}, {{"enable-prefix-caching", "false"}}).empty());
  EXPECT_EQ(restart_only_differences({{"threads", "1"}}, {{"threads", "2"}, {"max-num-seqs", "4"}}),
            std::vector<std::string>{"threads"});
}

TEST(KnobFlags, AShellUnderstandsTheLine) {
  EXPECT_EQ(shell_line({"crible", "serve", "my model.gguf", "it's", "", "--x=1"}),
            "crible serve 'my model.gguf' 'it'\\''s' '' --x=1");
}

TEST(PrometheusText, SamplesLabelsAndSums) {
  const auto lines = parse_prometheus(
      "# HELP a_total x\n# TYPE a_total counter\na_total{m=\"x,\\\"y}\",n=\"2\"} 3\na_total{m=\"z\"} 4 "
      "1700000000\n"
      "g 1e3\nbroken{ 5\nh_bucket{le=\"+Inf\"} +Inf\nnovalue\nh_count 2\r\n");
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0].labels.at("m"), "x,\"y}");
  EXPECT_EQ(lines[0].labels.at("n"), "2");
  EXPECT_EQ(lines[2].value, 1000);
  EXPECT_EQ(counters(lines), (std::map<std::string, double>{{"a_total", 7}, {"h_count", 2}}));
}

TEST(Gate, WhatIsNoAnswer) {
  EXPECT_EQ(sanity_complaint("Red, green and blue."), "");
  EXPECT_EQ(sanity_complaint("ok"), "");
  EXPECT_NE(sanity_complaint(""), "");
  EXPECT_NE(sanity_complaint(" \n"), "");
  EXPECT_NE(sanity_complaint("!!!!!!!!!!!!!!!!"), "");
  EXPECT_NE(sanity_complaint("ababababababababab"), "");
  EXPECT_NE(sanity_complaint("caf\xC3"), "");
  EXPECT_NE(sanity_complaint("\xFF\xFE"), "");
  EXPECT_EQ(sanity_complaint("日本語です"), "");
}

TEST(WarmUp, SteadyMeansTheLastOnesAgree) {
  EXPECT_FALSE(is_steady({100, 100}, 3, 0.1));
  EXPECT_TRUE(is_steady({500, 100, 105, 109}, 3, 0.1));
  EXPECT_FALSE(is_steady({500, 100, 105, 111}, 3, 0.1));
  EXPECT_FALSE(is_steady({100, 100, 100, 500}, 3, 0.1));
}

TEST(Sha256, KnownDigests) {
  // FIPS 180-4's examples, through files; the last is longer than one read.
  const auto path = std::filesystem::temp_directory_path() / ("crible_sha256_" + std::to_string(::getpid()));
  const auto digest = [&](const std::string& content) {
    EXPECT_TRUE(write_file_atomic(path, content));
    return sha256_of_file(path).value_or("");
  };
  EXPECT_EQ(digest(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digest("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digest(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  std::filesystem::remove(path);
  EXPECT_FALSE(sha256_of_file(path));
}

TEST(Progress, LinesNeverExceedTheWidth) {
  for (const std::string line : {"", "abc", "block 1/5 · été · naïve ☃ café", "ααααααααααααααααααα"}) {
    for (int columns = 1; columns < 40; ++columns) {
      const std::string fitted = fit_width(line, columns);
      const auto points = std::ranges::count_if(
          fitted, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
      EXPECT_LE(points, columns);
      if (std::ssize(line) <= columns) {
        EXPECT_EQ(fitted, line);
      }
    }
  }
}

TEST(Progress, Durations) {
  EXPECT_EQ(format_duration(-1), "0 s");
  EXPECT_EQ(format_duration(59.6), "1 min 00 s");
  EXPECT_EQ(format_duration(200), "3 min 20 s");
  EXPECT_EQ(format_duration(7500), "2 h 05 min");
  EXPECT_EQ(bar(0.5, 10), "[#####.....]");
  EXPECT_EQ(bar(7, 4), "[####]");
}

StudySpec small_spec() {
  return parse_spec(
             "study: s\ntarget: {engine: crible, model: m}\nconfigurations:\n  - {name: a, max-num-seqs: 1}\n"
             "  - {name: b, max-num-seqs: 2}\nscenarios: [kv_cache, conversation, stability, "
             "concurrency]\nblocks: 4\n"
             "objectives:\n  x: {minimise: ttft_miss_ms}\n",
             "s.yaml")
      .value();
}

TEST(Estimate, GrowsWithWorkAndShrinksWithSpeed) {
  const StudySpec spec = small_spec();
  const Plan plan = make_plan(spec);
  const double slow = estimate_study_s(spec, plan, {100, 10});
  EXPECT_GT(slow, estimate_study_s(spec, plan, {200, 20}));
  for (const ScenarioSpec& scenario : spec.scenarios)
    EXPECT_GT(estimate_trial_s(scenario, {100, 10}), 0) << scenario.name;
}

TEST(Estimate, ABudgetIsKeptAsFarAsRepeatsCanKeepIt) {
  const StudySpec spec = small_spec();
  const Plan plan = make_plan(spec);
  const Speeds speeds{1000, 80};
  const double whole = estimate_study_s(spec, plan, speeds);
  EXPECT_EQ(scale_for_budget(spec, plan, speeds, whole + 1), 1);
  double last = 1;
  for (const double share : {0.9, 0.7, 0.5}) {
    const double scale = scale_for_budget(spec, plan, speeds, share * whole);
    EXPECT_LT(scale, last);
    StudySpec scaled = spec;
    scaled.scenarios = scaled_scenarios(spec, scale);
    EXPECT_LE(estimate_study_s(scaled, plan, speeds), share * whole);
    last = scale;
  }
  for (const ScenarioSpec& scenario : scaled_scenarios(spec, 0.0001)) {
    for (const auto& [name, values] : scenario.parameters) {
      for (const double value : values) EXPECT_GE(value, 0) << scenario.name << "." << name;
    }
  }
}

TEST(RemainingTime, PrefersWhatWasMeasured) {
  const StudySpec spec = small_spec();
  RemainingTime time(spec.scenarios, {1000, 80});
  EXPECT_DOUBLE_EQ(time.trial_s("a", "kv_cache"), estimate_trial_s(spec.scenarios[0], {1000, 80}));
  time.learn("b", "kv_cache", 10);
  EXPECT_DOUBLE_EQ(time.trial_s("a", "kv_cache"), 10)
      << "another configuration's time is better than an estimate";
  time.learn("a", "kv_cache", 2);
  time.learn("a", "kv_cache", 4);
  EXPECT_DOUBLE_EQ(time.trial_s("a", "kv_cache"), 3);
}

}  // namespace
}  // namespace crible::study
