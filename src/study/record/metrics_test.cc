#include "study/record/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace crible::study {
namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;

constexpr int64_t kMs = 1'000'000;

// Scheduled at 0, sent 1 ms later, first token at ttft_ms, then `tokens - 1` gaps of gap_ms.
RequestRecord request(int index, int64_t ttft_ms, int tokens, int64_t gap_ms) {
  RequestRecord r;
  r.index = index;
  r.actual_send_ns = 1 * kMs;
  r.first_token_ns = ttft_ms * kMs;
  r.first_output_ns = r.first_token_ns;
  r.token_gaps_ns.assign(static_cast<size_t>(tokens - 1), gap_ms * kMs);
  r.last_token_ns = r.first_token_ns + (tokens - 1) * gap_ms * kMs;
  r.end_ns = r.last_token_ns;
  r.prompt_tokens = 100;
  r.output_tokens = tokens;
  return r;
}

RequestRecord shifted(RequestRecord r, int64_t by_ms) {
  for (int64_t* stamp : {&r.scheduled_ns, &r.actual_send_ns, &r.first_token_ns, &r.first_output_ns,
                         &r.last_token_ns, &r.end_ns}) {
    *stamp += by_ms * kMs;
  }
  return r;
}

std::vector<double> samples(const TrialMetrics& metrics, const std::string& name) {
  const auto found = metrics.samples.find(name);
  return found == metrics.samples.end() ? std::vector<double>() : found->second;
}

TEST(Metrics, FollowTheDefinitions) {
  RequestRecord r = request(0, 50, 11, 10);
  r.first_output_ns = 70 * kMs;
  EXPECT_EQ(ttft_ms(r), 50);
  EXPECT_EQ(ttft_from_send_ms(r), 49);
  EXPECT_EQ(ttfo_ms(r), 70);
  EXPECT_EQ(e2el_ms(r), 150);
  EXPECT_EQ(tpot_ms(r), 10);
  r.output_tokens = 1;
  EXPECT_FALSE(tpot_ms(r).has_value());
  r.status = RequestStatus::kTimeout;
  EXPECT_FALSE(ttft_ms(r).has_value());
  EXPECT_FALSE(e2el_ms(r).has_value());
  r.status = RequestStatus::kOk;
  r.first_token_ns = kUnset;
  EXPECT_FALSE(ttft_ms(r).has_value());
}

// A late send is the load generator's delay, and the user's: it counts from the scheduled time.
TEST(Metrics, LatencyStartsWhenTheRequestWasDue) {
  RequestRecord r = request(0, 500, 2, 10);
  r.actual_send_ns = 450 * kMs;
  EXPECT_EQ(ttft_ms(r), 500);
  EXPECT_EQ(ttft_from_send_ms(r), 50);
}

TEST(Metrics, AHitIsWhatTheServerConfirms) {
  RequestRecord r = request(0, 10, 2, 1);
  EXPECT_FALSE(confirmed_hit(r));
  EXPECT_TRUE(confirmed_miss(r));  // unique by construction, and nothing contradicts it
  r.cached_tokens = 50;
  EXPECT_TRUE(confirmed_hit(r));
  EXPECT_FALSE(confirmed_miss(r));
  r.cached_tokens = 49;
  EXPECT_FALSE(confirmed_hit(r));
  r.cached_tokens = 10;
  EXPECT_TRUE(confirmed_miss(r));
  r.cached_tokens = 11;
  EXPECT_FALSE(confirmed_miss(r));
}

TrialRecord cache_trial(bool caching) {
  TrialRecord trial;
  trial.scenario = "kv_cache";
  for (int pair = 0; pair < 3; ++pair) {
    RequestRecord miss = request(2 * pair, 300, 4, 5);
    miss.role = CacheRole::kMiss;
    miss.pair_id = "p" + std::to_string(pair);
    miss.cached_tokens = 0;
    RequestRecord hit = request(2 * pair + 1, caching ? 20 : 310, 4, 5);
    hit.role = CacheRole::kHit;
    hit.pair_id = miss.pair_id;
    hit.cached_tokens = caching ? 96 : 0;
    trial.requests.push_back(shifted(miss, pair * 1000));
    trial.requests.push_back(shifted(hit, pair * 1000 + 500));
  }
  return trial;
}

TEST(Metrics, AccelerationPairsAMissWithItsConfirmedHit) {
  const TrialMetrics on = compute_metrics(cache_trial(true), {});
  EXPECT_THAT(samples(on, "ttft_miss_ms"), ElementsAre(300, 300, 300));
  EXPECT_THAT(samples(on, "ttft_hit_ms"), ElementsAre(20, 20, 20));
  EXPECT_THAT(samples(on, "acceleration"), ElementsAre(15, 15, 15));
  EXPECT_THAT(samples(on, "ttft_repeat_ms"), ElementsAre(20, 20, 20));
  EXPECT_THAT(samples(on, "cached_prompt_share"), ElementsAre(DoubleNear(0.48, 1e-12)));
  // Metrics of other scenarios are not made from pairs.
  EXPECT_TRUE(samples(on, "ttft_ms").empty());

  // With the cache off the same workload has no HIT, whatever the labels hoped for.
  const TrialMetrics off = compute_metrics(cache_trial(false), {});
  EXPECT_TRUE(samples(off, "ttft_hit_ms").empty());
  EXPECT_TRUE(samples(off, "acceleration").empty());
  EXPECT_THAT(samples(off, "ttft_repeat_ms"), ElementsAre(310, 310, 310));
}

TEST(Metrics, AMissThatWasCachedIsNoMiss) {
  TrialRecord trial = cache_trial(true);
  trial.requests[0].cached_tokens = 90;
  const TrialMetrics metrics = compute_metrics(trial, {});
  EXPECT_EQ(samples(metrics, "ttft_miss_ms").size(), 2u);
  EXPECT_EQ(samples(metrics, "acceleration").size(), 2u);
}

TrialRecord load_trial() {
  TrialRecord trial;
  trial.scenario = "concurrency";
  // Level 1: two requests, one after the other, 11 tokens in 150 ms each: 22 tokens in 299 ms.
  // Level 4: four together, 44 tokens in 299 ms, one of them failed.
  for (int i = 0; i < 2; ++i) {
    RequestRecord r = shifted(request(i, 50, 11, 10), 150 * i);
    r.level = 1;
    trial.requests.push_back(r);
  }
  for (int i = 0; i < 5; ++i) {
    RequestRecord r = shifted(request(2 + i, 100, 11, 20), 1000);
    r.level = 4;
    if (i == 4) r.status = RequestStatus::kError;
    trial.requests.push_back(r);
  }
  return trial;
}

TEST(Metrics, ThroughputIsThatOfTheBestLevel) {
  const TrialRecord trial = load_trial();
  const std::vector<LevelRates> rates = rates_by_level(trial);
  ASSERT_EQ(rates.size(), 2u);
  EXPECT_EQ(rates[0].level, 1);
  EXPECT_NEAR(rates[0].output_tokens_per_s, 22 / 0.299, 1e-9);
  EXPECT_NEAR(rates[1].output_tokens_per_s, 44 / 0.299, 1e-9);
  EXPECT_EQ(rates[1].requests, 5);
  EXPECT_EQ(rates[1].failed_requests, 1);
  const std::vector<ServiceLevel> levels = {{"ttft_ms", 60}, {"itl_ms", 10}};
  const TrialMetrics metrics = compute_metrics(trial, levels);
  EXPECT_THAT(samples(metrics, "output_tokens_per_s"), ElementsAre(DoubleNear(44 / 0.299, 1e-9)));
  // Only the two requests of level 1 meet both levels.
  EXPECT_THAT(samples(metrics, "goodput"), ElementsAre(DoubleNear(2 / 0.299, 1e-9)));
  EXPECT_THAT(samples(metrics, "error_rate"), ElementsAre(DoubleNear(1.0 / 7, 1e-12)));
  EXPECT_EQ(samples(metrics, "itl_ms").size(), 60u);
}

TEST(Metrics, GapsBetweenFramesOfManyTokensAreNoTokenGaps) {
  TrialRecord trial;
  trial.scenario = "conversation";
  trial.requests = {request(0, 50, 11, 10)};
  trial.requests[0].output_tokens = 40;
  const TrialMetrics metrics = compute_metrics(trial, {});
  EXPECT_EQ(samples(metrics, "icl_ms").size(), 10u);
  EXPECT_TRUE(samples(metrics, "itl_ms").empty());
}

TEST(Metrics, CancelledRequestsAreNeitherGoodNorBad) {
  TrialRecord trial;
  trial.scenario = "conversation";
  trial.requests = {request(0, 50, 3, 10), request(1, 50, 3, 10)};
  trial.requests[1].status = RequestStatus::kCancelled;
  const TrialMetrics metrics = compute_metrics(trial, {});
  EXPECT_EQ(metrics.requests, 1);
  EXPECT_EQ(metrics.failed_requests, 0);
}

TEST(Metrics, MemoryIsTheLargestSampleAndPreemptionsTheCountersGrowth) {
  TrialRecord trial;
  trial.scenario = "stability";
  trial.memory = {{0, 100 << 20, 400 << 20, 7 << 20}, {1, 200 << 20, 400 << 20, 5 << 20},
                  {2, kUnset, kUnset, kUnset}};
  trial.counters_before = {{"vllm:num_preemptions_total", 3}};
  trial.counters_after = {{"vllm:num_preemptions_total", 5}};
  const TrialMetrics metrics = compute_metrics(trial, {});
  EXPECT_THAT(samples(metrics, "device_memory_mib"), ElementsAre(200));
  EXPECT_THAT(samples(metrics, "device_memory_share"), ElementsAre(0.5));
  EXPECT_THAT(samples(metrics, "server_resident_mib"), ElementsAre(7));
  EXPECT_THAT(samples(metrics, "preemptions"), ElementsAre(2));
  trial.counters_after = {{"vllm:num_preemptions_total", 1}};
  EXPECT_TRUE(samples(compute_metrics(trial, {}), "preemptions").empty());
}

// The reference's "19% degradation" came from longer answers at the end.
TEST(Metrics, LongerAnswersAtTheEndAreNoDegradation) {
  TrialRecord trial;
  trial.scenario = "stability";
  std::mt19937_64 random(1);
  for (int i = 0; i < 20; ++i) {
    const int tokens = 20 + 10 * i + static_cast<int>(random() % 30);
    trial.requests.push_back(shifted(request(i, 50, tokens, 10), 10000 * i));
  }
  const Slope steady = *latency_slope(trial);
  EXPECT_NEAR(steady.value, 0, 1e-9);
  // Half a percent of the mean per request is seen for what it is.
  double mean_ms = 0;
  for (const RequestRecord& r : trial.requests) mean_ms += *e2el_ms(r) / 20;
  for (int i = 0; i < 20; ++i) {
    RequestRecord& r = trial.requests[static_cast<size_t>(i)];
    r.last_token_ns += static_cast<int64_t>(0.005 * mean_ms * i * static_cast<double>(kMs));
  }
  // The mean has grown by 9.5 requests' worth of it.
  EXPECT_NEAR(latency_slope(trial)->value, 0.5 / (1 + 0.005 * 9.5), 1e-5);
}

TEST(Metrics, DoNotDependOnTheOrderOfTheRecord) {
  std::mt19937_64 random(2);
  for (TrialRecord trial : {cache_trial(true), load_trial()}) {
    for (RequestRecord& r : trial.requests) r.token_gaps_ns.push_back(static_cast<int64_t>(random() % kMs));
    const TrialMetrics before = compute_metrics(trial, {});
    for (int round = 0; round < 20; ++round) {
      std::shuffle(trial.requests.begin(), trial.requests.end(), random);
      EXPECT_EQ(compute_metrics(trial, {}).samples, before.samples);
    }
  }
}

TEST(Metrics, AnEmptyTrialMeasuresNothing) {
  TrialRecord trial;
  trial.scenario = "stability";
  EXPECT_TRUE(compute_metrics(trial, {}).samples.empty());
  EXPECT_TRUE(rates_by_level(trial).empty());
}

}  // namespace
}  // namespace crible::study
