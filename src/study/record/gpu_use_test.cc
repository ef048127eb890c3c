#include "study/record/gpu_use.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/gpu_telemetry.h"
#include "study/record/metrics.h"

namespace crible::study {
namespace {

using testing::ElementsAre;

constexpr int64_t kSecond = 1'000'000'000;

TrialRecord trial_with(std::vector<GpuSample> samples, int64_t output_tokens = 0) {
  TrialRecord trial;
  trial.scenario = "concurrency";
  trial.gpu = std::move(samples);
  if (output_tokens > 0) {
    RequestRecord request;
    request.output_tokens = output_tokens;
    request.first_token_ns = 1;
    request.last_token_ns = 2;
    trial.requests = {request};
  }
  return trial;
}

TEST(GpuUse, NothingComesOfNothing) {
  const GpuUse use = gpu_use(trial_with({}, 10));
  EXPECT_FALSE(use.energy_j || use.mean_power_w || use.peak_power_w || use.peak_memory_bytes || use.throttled_share);
  const TrialMetrics metrics = compute_metrics(trial_with({}, 10), {});
  for (const MetricInfo& metric : metric_table()) {
    EXPECT_FALSE(metric.of_gpu && metrics.samples.contains(metric.name)) << metric.name;
  }
  // A GPU that gives no figure is none.
  EXPECT_FALSE(gpu_use(trial_with({{.at_ns = 0}, {.at_ns = kSecond}})).energy_j);
}

TEST(GpuUse, EnergyIsTheCountersDifference) {
  // The readings say 100 W, the counter 300 J in 2 s: the counter is exact.
  const GpuUse use = gpu_use(trial_with({{.at_ns = 0, .power_mw = 100'000, .energy_mj = 5'000'000},
                                         {.at_ns = kSecond, .power_mw = 100'000, .energy_mj = 5'100'000},
                                         {.at_ns = 2 * kSecond, .power_mw = 100'000, .energy_mj = 5'300'000}}));
  EXPECT_DOUBLE_EQ(*use.energy_j, 300);
  EXPECT_DOUBLE_EQ(*use.mean_power_w, 150);
  EXPECT_DOUBLE_EQ(*use.peak_power_w, 100);
}

TEST(GpuUse, WithoutACounterItIsTheAreaUnderTheReadings) {
  // Trapezia of 100 to 300 W over 1 s and 300 to 100 W over 3 s; a missed reading between them.
  std::vector<GpuSample> samples = {{.at_ns = 0, .power_mw = 100'000},
                                    {.at_ns = kSecond, .power_mw = 300'000},
                                    {.at_ns = 2 * kSecond},
                                    {.at_ns = 4 * kSecond, .power_mw = 100'000}};
  const GpuUse use = gpu_use(trial_with(samples));
  EXPECT_DOUBLE_EQ(*use.energy_j, 200 + 600);
  EXPECT_DOUBLE_EQ(*use.mean_power_w, 200);
  EXPECT_DOUBLE_EQ(*use.peak_power_w, 300);
  // A counter that fell is no counter.
  samples.front().energy_mj = 9'000;
  samples.back().energy_mj = 10;
  EXPECT_DOUBLE_EQ(*gpu_use(trial_with(samples)).energy_j, 800);
  std::swap(samples.front(), samples.back());
  EXPECT_DOUBLE_EQ(*gpu_use(trial_with(samples)).energy_j, 800) << "the order of the record does not matter";
  EXPECT_FALSE(gpu_use(trial_with({samples[0]})).energy_j) << "no time lies between one sample and itself";
}

TEST(GpuUse, SeveralGpusCountTogether) {
  const auto sample = [](int64_t at_ns, int gpu, int64_t bytes, int64_t mw, int64_t mj) {
    return GpuSample{.at_ns = at_ns, .gpu = gpu, .memory_used_bytes = bytes, .power_mw = mw, .energy_mj = mj};
  };
  std::vector<GpuSample> samples = {sample(0, 0, 10, 50'000, 0), sample(0, 3, 100, 60'000, 1'000),
                                    sample(kSecond, 0, 30, 90'000, 70'000), sample(kSecond, 3, 70, 10'000, 31'000)};
  const GpuUse use = gpu_use(trial_with(samples));
  EXPECT_DOUBLE_EQ(*use.energy_j, 70 + 30);
  EXPECT_DOUBLE_EQ(*use.mean_power_w, 100);
  EXPECT_DOUBLE_EQ(*use.peak_power_w, 110) << "at the first moment, not each one's own highest";
  EXPECT_EQ(use.peak_memory_bytes, 110);
  samples[1].energy_mj = samples[3].energy_mj = kUnset;
  samples[1].power_mw = samples[3].power_mw = kUnset;
  EXPECT_FALSE(gpu_use(trial_with(samples)).energy_j) << "half of the energy is not the energy";
}

TEST(GpuUse, ThrottlingIsAShareOfTheSamplesThatTell) {
  const TrialRecord trial = trial_with({{.throttle_reasons = 0},
                                        {.throttle_reasons = kGpuIdle},
                                        {.throttle_reasons = kGpuPowerCap},
                                        {.throttle_reasons = kGpuThermalSoftware | kGpuPowerCap},
                                        {}});
  EXPECT_DOUBLE_EQ(*gpu_use(trial).throttled_share, 0.5) << "an idle GPU is not throttled";
  EXPECT_DOUBLE_EQ(*throttled_share(trial, kGpuDisturbances), 0.25);
  EXPECT_FALSE(throttled_share(trial_with({{}}), kGpuDisturbances));
}

TEST(GpuUse, BecomesMetrics) {
  const TrialMetrics metrics = compute_metrics(
      trial_with({{.at_ns = 0, .memory_used_bytes = 3 << 20, .power_mw = 100'000, .energy_mj = 0, .throttle_reasons = 0},
                  {.at_ns = 2 * kSecond, .memory_used_bytes = 2 << 20, .power_mw = 400'000, .energy_mj = 500'000,
                   .throttle_reasons = kGpuPowerBrake}},
                 1000),
      {});
  EXPECT_THAT(metrics.samples.find("gpu_power_w")->second, ElementsAre(250));
  EXPECT_THAT(metrics.samples.find("gpu_power_peak_w")->second, ElementsAre(400));
  EXPECT_THAT(metrics.samples.find("gpu_memory_mib")->second, ElementsAre(3));
  EXPECT_THAT(metrics.samples.find("gpu_throttled_share")->second, ElementsAre(0.5));
  EXPECT_THAT(metrics.samples.find("energy_per_output_token_j")->second, ElementsAre(0.5));
}

}  // namespace
}  // namespace crible::study
