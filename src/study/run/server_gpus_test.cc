// Which GPUs are a server's, and what their state says of a trial.
#include "study/run/server_gpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/fake_nvml/scripted_gpus.h"

namespace crible::study {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

GpuTelemetry opened() {
  return GpuTelemetry::open(CRIBLE_FAKE_NVML_NEW).value();
}

ServerState on_device(const std::string& device) {
  ServerState state;
  state.effective_json = device.empty() ? "{}" : R"({"device":")" + device + "\"}";
  return state;
}

const load::Endpoint kHere{.host = "127.0.0.1"};
const load::Endpoint kElsewhere{.host = "gpu-box.example"};

TEST(ServerGpus, AServerOfOursIsWhereItsProcessIs) {
  ScriptedGpus gpus("count=3 1.processes=40:1 2.processes=41:1,42:1");
  const GpuTelemetry telemetry = opened();
  EXPECT_THAT(gpus_of_server(telemetry, kHere, 42, on_device("cuda")), ElementsAre(2));
  EXPECT_THAT(gpus_of_server(telemetry, kHere, 42, on_device("")), ElementsAre(2));
  EXPECT_THAT(gpus_of_server(telemetry, kHere, 42, on_device("cpu")), IsEmpty()) << "it says so";
  EXPECT_THAT(gpus_of_server(telemetry, kHere, 7, on_device("cuda")), ElementsAre(0))
      << "on a GPU, by its own word, under a number that the driver does not show";
  EXPECT_THAT(gpus_of_server(telemetry, kHere, 7, on_device("")), IsEmpty());
  ServerState spread;
  spread.effective_json = R"({"device":"cuda","tensor-parallel-size":2})";
  EXPECT_THAT(gpus_of_server(telemetry, kHere, 7, spread), ElementsAre(0, 1));
  EXPECT_THAT(gpus_of_server(telemetry, kHere, 42, spread), ElementsAre(2)) << "the driver knows better";
}

TEST(ServerGpus, AServerThatWasThereIsOnTheOccupiedOnes) {
  ScriptedGpus gpus("count=3 0.processes= 1.processes=40:1");
  const GpuTelemetry telemetry = opened();
  EXPECT_THAT(gpus_of_server(telemetry, kHere, std::nullopt, on_device("")), ElementsAre(1));
  EXPECT_THAT(gpus_of_server(telemetry, {.host = "localhost"}, std::nullopt, on_device("cuda")), ElementsAre(1));
  EXPECT_THAT(gpus_of_server(telemetry, kElsewhere, std::nullopt, on_device("cuda")), IsEmpty())
      << "another machine's GPUs are not ours";
}

TEST(ServerGpus, ASampleIsTheReading) {
  const GpuReading whole{.gpu = 3,
                         .memory_used_bytes = 1,
                         .memory_total_bytes = 2,
                         .utilization_percent = 3,
                         .power_milliwatts = 4,
                         .energy_millijoules = 5,
                         .temperature_celsius = 6,
                         .sm_clock_mhz = 7,
                         .memory_clock_mhz = 8,
                         .throttle_reasons = 9};
  EXPECT_EQ(to_sample(whole, 10), (GpuSample{10, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(to_sample({.gpu = 1}, 5), (GpuSample{.at_ns = 5, .gpu = 1}));
}

TrialRecord with_reasons(int samples, int of_them, int64_t reasons) {
  TrialRecord trial;
  for (int i = 0; i < samples; ++i) trial.gpu.push_back({.at_ns = i, .throttle_reasons = i < of_them ? reasons : 0});
  return trial;
}

TEST(GpuJudgement, HeatAndSupplySpoilATrialThePowerLimitDoesNot) {
  for (const auto& [reason, name] :
       {std::pair(kGpuThermalSoftware, "thermal_software"), std::pair(kGpuThermalHardware, "thermal_hardware"),
        std::pair(kGpuPowerBrake, "power_brake"), std::pair(kGpuHardwareSlowdown, "hardware_slowdown")}) {
    TrialRecord spoilt = with_reasons(100, 3, static_cast<int64_t>(reason | kGpuPowerCap));
    judge_gpus(spoilt);
    EXPECT_FALSE(spoilt.validity.valid) << name;
    ASSERT_EQ(spoilt.validity.reasons.size(), 1u);
    EXPECT_THAT(spoilt.validity.reasons[0],
                HasSubstr(std::string("gpu_throttled: in 3.0% of 100 samples the GPU was slowed down (") + name + ")"));
  }
  TrialRecord brief = with_reasons(100, 2, kGpuThermalSoftware);
  judge_gpus(brief);
  EXPECT_TRUE(brief.validity.valid);
  EXPECT_EQ(brief.validity.reasons.size(), 1u) << "a remark";
  for (const uint64_t harmless : {uint64_t{kGpuPowerCap}, uint64_t{kGpuIdle}, uint64_t{kGpuSetClocks}}) {
    TrialRecord trial = with_reasons(10, 10, static_cast<int64_t>(harmless));
    judge_gpus(trial);
    EXPECT_TRUE(trial.validity.valid && trial.validity.reasons.empty());
  }
  TrialRecord without;
  judge_gpus(without);
  EXPECT_TRUE(without.validity.valid && without.validity.reasons.empty());
}

TEST(GpuJudgement, WhatWasSpoiltBeforeStaysSo) {
  TrialRecord trial = with_reasons(100, 1, kGpuPowerBrake);
  trial.validity = {false, {"client_lag: ..."}};
  judge_gpus(trial);
  EXPECT_FALSE(trial.validity.valid);
  EXPECT_EQ(trial.validity.reasons.size(), 2u);
}

TEST(BusyGpus, OthersMemoryAndWorkAreFound) {
  ScriptedGpus gpus("count=1 0.name=G");
  const GpuTelemetry telemetry = opened();
  const auto found = [&](const std::string& figures) {
    gpus.say("count=1 0.name=G " + figures);
    const auto findings = busy_gpus(telemetry);
    return findings.empty() ? std::string() : findings[0];
  };
  EXPECT_EQ(found("0.processes= 0.memory_used=1 0.memory_total=100 0.utilization=0"), "");
  EXPECT_EQ(found("0.processes=9:1000000 0.utilization=4"), "") << "a monitor is no work";
  EXPECT_THAT(found("0.processes=9:2147483648"), HasSubstr("GPU 0 (G) is not idle: process 9 holds 2.00 GiB"));
  EXPECT_THAT(found("0.processes=9"), HasSubstr("process 9 holds memory"));
  EXPECT_THAT(found("0.utilization=60"), HasSubstr("it is 60% busy"));
  EXPECT_THAT(found("0.memory_used=6000000000 0.memory_total=80000000000"), HasSubstr("are in use"))
      << "by processes that the driver does not show";
  EXPECT_EQ(found(""), "") << "nothing known, nothing said";
}

TEST(BusyGpus, OnlyWhatTheStudyMayUse) {
  ScriptedGpus gpus("count=2 0.utilization=99 1.utilization=0");
  const GpuTelemetry telemetry = opened();
  EXPECT_EQ(busy_gpus(telemetry).size(), 1u);
  ::setenv("CUDA_VISIBLE_DEVICES", "1", 1);
  EXPECT_THAT(busy_gpus(telemetry), IsEmpty());
  ::unsetenv("CUDA_VISIBLE_DEVICES");
}

}  // namespace
}  // namespace crible::study
