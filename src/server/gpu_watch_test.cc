// The GPU's gauges, from a scripted driver to /metrics and /admin/config.
#include "server/gpu_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/fake_nvml/scripted_gpus.h"
#include "server/test_client.h"

namespace crible {
namespace {

using testing::HasSubstr;
using testing::Not;

// Two GPUs, the second of which is this process's.
std::string script(const std::string& figures) {
  return "count=2 0.power_mw=1 1.name=Fake-H100 1.processes=" + std::to_string(::getpid()) + ":5 " + figures;
}

constexpr const char* kFigures =
    "1.memory_used=2000 1.memory_total=8000 1.utilization=50 1.power_mw=350500 1.energy_mj=1234567 "
    "1.temperature=61 1.sm_clock=1980 1.memory_clock=2619 1.throttle=0x24";

TEST(GpuWatch, ReadsItsOwnGpuAndKeepsAReadingForAWhile) {
  ScriptedGpus gpus(script("1.power_mw=100"));
  GpuWatch watch = GpuWatch::open(1, CRIBLE_FAKE_NVML_NEW);
  EXPECT_EQ(watch.device_name(), "Fake-H100");
  const TimePoint start = now();
  ASSERT_EQ(watch.readings(start).size(), 1u);
  EXPECT_EQ(watch.readings(start)[0].gpu, 1);
  EXPECT_EQ(watch.readings(start)[0].power_milliwatts, 100);
  gpus.say(script("1.power_mw=200"));
  EXPECT_EQ(watch.readings(start + GpuWatch::kFresh / 2)[0].power_milliwatts, 100);
  EXPECT_EQ(watch.readings(start + GpuWatch::kFresh)[0].power_milliwatts, 200);
}

TEST(GpuWatch, WithoutADriverThereIsNothingToWatch) {
  GpuWatch watch = GpuWatch::open(1, "/nowhere/libnvidia-ml.so.1");
  EXPECT_TRUE(watch.readings().empty());
  EXPECT_EQ(watch.device_name(), "");
}

TEST(GpuWatch, EveryFigureIsAMetric) {
  ScriptedGpus gpus(script(kFigures));
  TestServer server({.gpus = GpuWatch::open(1, CRIBLE_FAKE_NVML_NEW)});
  const auto value = [&](const std::string& name) { return metric(server.port(), name, "gpu=\"1\""); };
  EXPECT_EQ(value("crible:gpu_memory_used_bytes"), 2000);
  EXPECT_EQ(value("crible:gpu_memory_total_bytes"), 8000);
  EXPECT_EQ(value("crible:gpu_utilization"), 0.5);
  EXPECT_EQ(value("crible:gpu_power_watts"), 350.5);
  EXPECT_EQ(value("crible:gpu_energy_joules_total"), 1234.567);
  EXPECT_EQ(value("crible:gpu_temperature_celsius"), 61);
  EXPECT_EQ(value("crible:gpu_sm_clock_hertz"), 1.98e9);
  EXPECT_EQ(value("crible:gpu_memory_clock_hertz"), 2.619e9);
  const auto throttled = [&](const std::string& reason) {
    return metric(server.port(), "crible:gpu_throttled", "gpu=\"1\",reason=\"" + reason + "\"");
  };
  EXPECT_EQ(throttled("power_cap"), 1);
  EXPECT_EQ(throttled("thermal_software"), 1);
  EXPECT_EQ(throttled("power_brake"), 0);
  TestClient client(server.port());
  EXPECT_EQ(client.request("GET", "/admin/config").json()["machine"]["device"], "Fake-H100");
  EXPECT_THAT(client.request("GET", "/metrics").body, Not(HasSubstr("gpu=\"0\""))) << "another's GPU";
}

TEST(GpuWatch, FiguresThatAreAbsentLeaveNoMetric) {
  ScriptedGpus gpus(script("1.temperature=40"));
  TestServer server({.gpus = GpuWatch::open(1, CRIBLE_FAKE_NVML_NEW)});
  const std::string text = TestClient(server.port()).request("GET", "/metrics").body;
  EXPECT_THAT(text, HasSubstr("crible:gpu_temperature_celsius{"));
  for (const char* absent : {"gpu_power", "gpu_memory", "gpu_throttled", "gpu_sm_clock", "gpu_utilization"}) {
    EXPECT_EQ(text.find(std::string("crible:") + absent), std::string::npos) << absent;
  }
}

TEST(GpuWatch, AServerOnACpuHasNoneOfThem) {
  TestServer server;
  TestClient client(server.port());
  EXPECT_THAT(client.request("GET", "/metrics").body, Not(HasSubstr("crible:gpu_")));
  EXPECT_FALSE(client.request("GET", "/admin/config").json()["machine"].contains("device"));
}

}  // namespace
}  // namespace crible
