// Telemetry against a library that speaks NVML's binary interface and says what it is told.
#include "base/gpu_telemetry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/fake_nvml/scripted_gpus.h"

namespace crible {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr const char* kTwoGpus =
    "count=2 0.name=Fake-H100 0.uuid=GPU-aaaa-1 0.memory_used=1000 0.memory_used_with_reserve=1500 "
    "0.memory_total=85000000000 0.utilization=97 0.power_mw=698500 0.energy_mj=123456789012 0.temperature=71 "
    "0.sm_clock=1755 0.memory_clock=2619 0.throttle=0x24 0.processes=100:900,101 "
    "1.name=Other 1.uuid=GPU-bbbb-2 1.power_mw=70000 1.processes=101:5";

GpuTelemetry opened(const char* library = CRIBLE_FAKE_NVML_NEW) {
  auto telemetry = GpuTelemetry::open(library);
  EXPECT_TRUE(telemetry.has_value()) << (telemetry ? "" : telemetry.error().message);
  return std::move(*telemetry);
}

TEST(GpuTelemetry, ReadsEveryFigure) {
  ScriptedGpus gpus(kTwoGpus);
  const GpuTelemetry telemetry = opened();
  ASSERT_EQ(telemetry.count(), 2);
  EXPECT_EQ(telemetry.identity(0).name, "Fake-H100");
  EXPECT_EQ(telemetry.identity(1).uuid, "GPU-bbbb-2");
  const GpuReading expected{.gpu = 0,
                            .memory_used_bytes = 1000,
                            .memory_total_bytes = 85'000'000'000,
                            .utilization_percent = 97,
                            .power_milliwatts = 698'500,
                            .energy_millijoules = 123'456'789'012,
                            .temperature_celsius = 71,
                            .sm_clock_mhz = 1755,
                            .memory_clock_mhz = 2619,
                            .throttle_reasons = kGpuPowerCap | kGpuThermalSoftware};
  EXPECT_EQ(telemetry.read(0), expected);
  EXPECT_EQ(gpu_throttle_text(*expected.throttle_reasons), "power_cap, thermal_software");
}

TEST(GpuTelemetry, EveryReadingIsNew) {
  ScriptedGpus gpus("count=1 0.power_mw=1");
  const GpuTelemetry telemetry = opened();
  EXPECT_EQ(telemetry.read(0).power_milliwatts, 1);
  gpus.say("count=1 0.power_mw=2");
  EXPECT_EQ(telemetry.read(0).power_milliwatts, 2);
}

TEST(GpuTelemetry, WhatAGpuDoesNotGiveIsAbsentAlone) {
  ScriptedGpus gpus(kTwoGpus);
  const GpuTelemetry telemetry = opened();
  EXPECT_EQ(telemetry.read(1), (GpuReading{.gpu = 1, .power_milliwatts = 70'000}));
  const std::string all = kTwoGpus;
  // One call after the other fails: it takes its own figure away, and no other.
  const std::pair<const char*, std::optional<int64_t> GpuReading::*> figures[] = {
      {"0.power_mw", &GpuReading::power_milliwatts},        {"0.energy_mj", &GpuReading::energy_millijoules},
      {"0.temperature", &GpuReading::temperature_celsius},  {"0.sm_clock", &GpuReading::sm_clock_mhz},
      {"0.memory_clock", &GpuReading::memory_clock_mhz},    {"0.utilization", &GpuReading::utilization_percent}};
  const GpuReading whole = telemetry.read(0);
  for (const auto& [word, member] : figures) {
    std::string script = all;
    script.insert(script.find(std::string(" ") + word + "=") + std::string(word).size() + 2, "!999");
    gpus.say(script);
    GpuReading reading = telemetry.read(0);
    EXPECT_FALSE((reading.*member).has_value()) << word;
    reading.*member = whole.*member;
    EXPECT_EQ(reading, whole) << word;
  }
  gpus.say("count=1 0.memory_used=!15 0.throttle=!15");
  const GpuReading lost = telemetry.read(0);
  EXPECT_EQ(lost, GpuReading{.gpu = 0});
}

TEST(GpuTelemetry, AnOldDriverGivesWhatItHas) {
  ScriptedGpus gpus(kTwoGpus);
  const GpuTelemetry telemetry = opened(CRIBLE_FAKE_NVML_OLD);
  const GpuReading reading = telemetry.read(0);
  EXPECT_EQ(reading.memory_used_bytes, 1500) << "the reserve cannot be told apart";
  EXPECT_EQ(reading.throttle_reasons, 0x24u) << "by the function's old name";
  EXPECT_FALSE(reading.energy_millijoules.has_value());
  EXPECT_FALSE(reading.utilization_percent.has_value());
  EXPECT_FALSE(telemetry.processes(0).has_value());
  EXPECT_THAT(telemetry.used_by(100), IsEmpty());
}

TEST(GpuTelemetry, SaysWhyThereIsNone) {
  ScriptedGpus gpus("count=0");
  const auto error_of = [](const char* library) {
    const auto telemetry = GpuTelemetry::open(library);
    return telemetry ? Error{} : telemetry.error();
  };
  EXPECT_EQ(error_of("/nowhere/libnvidia-ml.so.1").code, ErrorCode::kNotFound);
  EXPECT_THAT(error_of("/nowhere/libnvidia-ml.so.1").message, HasSubstr("/nowhere/libnvidia-ml.so.1"));
  EXPECT_EQ(error_of("libm.so.6").code, ErrorCode::kUnsupported);
  EXPECT_THAT(error_of("libm.so.6").message, HasSubstr("lacks the functions of NVML"));
  EXPECT_EQ(error_of(CRIBLE_FAKE_NVML_NEW).code, ErrorCode::kNotFound);
  EXPECT_THAT(error_of(CRIBLE_FAKE_NVML_NEW).message, HasSubstr("finds no GPU"));
  gpus.say("init=!9");
  EXPECT_THAT(error_of(CRIBLE_FAKE_NVML_NEW).message, HasSubstr("does not start: Scripted error (error 9)"));
  gpus.say("count=!4");
  EXPECT_THAT(error_of(CRIBLE_FAKE_NVML_NEW).message, HasSubstr("does not count"));
  gpus.say("count=2 1.handle=!15");
  EXPECT_THAT(error_of(CRIBLE_FAKE_NVML_NEW).message, HasSubstr("GPU 1 does not answer"));
}

TEST(GpuTelemetry, FindsTheGpusOfAProcess) {
  ScriptedGpus gpus(kTwoGpus);
  const GpuTelemetry telemetry = opened();
  EXPECT_THAT(telemetry.used_by(100), ElementsAre(0));
  EXPECT_THAT(telemetry.used_by(101), ElementsAre(0, 1));
  EXPECT_THAT(telemetry.used_by(102), IsEmpty());
  const auto processes = telemetry.processes(0);
  ASSERT_TRUE(processes.has_value());
  ASSERT_EQ(processes->size(), 2u);
  EXPECT_EQ((*processes)[0].used_bytes, 900);
  EXPECT_FALSE((*processes)[1].used_bytes.has_value()) << "the driver may not say how much";
  std::string crowd = "1:1";
  for (int pid = 2; pid <= 50; ++pid) crowd += "," + std::to_string(pid) + ":" + std::to_string(pid);
  gpus.say("count=1 0.processes=" + crowd);
  const auto many = telemetry.processes(0);
  ASSERT_TRUE(many.has_value());
  ASSERT_EQ(many->size(), 50u) << "more than fit at the first try";
  EXPECT_EQ(many->back().pid, 50);
  gpus.say("count=1 0.processes=!4");
  EXPECT_THAT(telemetry.processes(0).error().message, HasSubstr("Scripted error (error 4)"));
}

TEST(GpuTelemetry, ReadsTheEnvironmentAsCudaDoes) {
  ScriptedGpus gpus("count=3 0.uuid=GPU-aaaa-1 1.uuid=GPU-bbbb-2 2.uuid=GPU-bbcc-3");
  const GpuTelemetry telemetry = opened();
  EXPECT_THAT(telemetry.visible(nullptr), ElementsAre(0, 1, 2));
  EXPECT_THAT(telemetry.visible(""), IsEmpty());
  EXPECT_THAT(telemetry.visible("-1"), IsEmpty());
  EXPECT_THAT(telemetry.visible("2,0"), ElementsAre(2, 0));
  EXPECT_THAT(telemetry.visible("1, 2"), ElementsAre(1, 2));
  EXPECT_THAT(telemetry.visible("1,7,0"), ElementsAre(1)) << "what follows a wrong word is not seen";
  EXPECT_THAT(telemetry.visible("GPU-bbcc,GPU-aaaa-1"), ElementsAre(2, 0));
  EXPECT_THAT(telemetry.visible("GPU-zz,0"), IsEmpty());
}

TEST(GpuTelemetry, AProcessThatTheDriverDoesNotShowIsOnTheFirstVisibleGpu) {
  ScriptedGpus gpus("count=2 1.processes=55:1");
  const GpuTelemetry telemetry = opened();
  ::setenv("CUDA_VISIBLE_DEVICES", "1,0", 1);
  EXPECT_THAT(telemetry.of_process(77), ElementsAre(1));
  EXPECT_THAT(telemetry.of_process(77, 2), ElementsAre(1, 0));
  EXPECT_THAT(telemetry.of_process(77, 3), ElementsAre(1, 0)) << "no more are visible";
  ::setenv("CUDA_VISIBLE_DEVICES", "0,1", 1);
  EXPECT_THAT(telemetry.of_process(55), ElementsAre(1)) << "the driver knows better";
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
  EXPECT_THAT(telemetry.of_process(77), IsEmpty());
  ::unsetenv("CUDA_VISIBLE_DEVICES");
}

TEST(GpuTelemetry, ReadingARealGpuIsQuick) {
  const auto telemetry = GpuTelemetry::open();
  if (!telemetry) GTEST_SKIP() << "skipped: no GPU (" << telemetry.error().message << ")";
  telemetry->read(0);
  const TimePoint start = now();
  GpuReading reading;
  for (int i = 0; i < 20; ++i) reading = telemetry->read(0);
  const double each_ms = to_ms(now() - start) / 20;
  std::printf("%s: %.3f ms a reading, %.1f W, %lld MiB in use, %lld C, throttled: %s\n",
              telemetry->identity(0).name.c_str(), each_ms,
              static_cast<double>(reading.power_milliwatts.value_or(0)) / 1e3,
              static_cast<long long>(reading.memory_used_bytes.value_or(0) >> 20),
              static_cast<long long>(reading.temperature_celsius.value_or(0)),
              gpu_throttle_text(reading.throttle_reasons.value_or(0)).c_str());
  EXPECT_LT(each_ms, 10) << "a sample five times a second must not disturb";
  EXPECT_TRUE(reading.memory_total_bytes.has_value());
}

}  // namespace
}  // namespace crible
