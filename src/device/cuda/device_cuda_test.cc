#include <numeric>

#include "device/cuda/device_properties.h"
#include "device/cuda/gpu_test.h"

namespace crible::cuda {
namespace {

using DeviceRoom = GpuTest;

TEST(DeviceRoomWithoutGpu, AnErrorSaysWhatFailed) {
  const Status status = status_of(cudaErrorMemoryAllocation, "allocate 12 MiB of weights");
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, ErrorCode::kResourceExhausted);
  EXPECT_NE(status.error().message.find("allocate 12 MiB of weights: out of memory"), std::string::npos)
      << status.error().message;
}

TEST(DeviceRoomWithoutGpu, AnArenaThatOnlyCountsAgreesWithOneThatGives) {
  alignas(256) std::byte memory[4096];
  DeviceArena counted;
  DeviceArena given(memory, sizeof memory);
  for (const int64_t count : {1, 63, 64, 65, 200}) {
    counted.slice<float>(count);
    const auto* slice = given.slice<float>(count);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(slice) % 256, 0u);
    EXPECT_EQ(counted.used_bytes(), given.used_bytes());
  }
}

TEST_F(DeviceRoom, PropertiesAreThoseOfAHopper) {
  const DeviceProperties properties = device_properties().value();
  EXPECT_GE(properties.multiprocessors, 64) << properties.name;
  EXPECT_GT(properties.free_bytes, 0);
  EXPECT_LE(properties.free_bytes, properties.total_bytes);
}

TEST_F(DeviceRoom, MoreMemoryThanThereIsIsAnErrorAndTheNextAllocationWorks) {
  const DeviceProperties properties = device_properties().value();
  const auto too_much = DeviceBuffer::allocate(properties.total_bytes * 2);
  ASSERT_FALSE(too_much);
  EXPECT_EQ(too_much.error().code, ErrorCode::kResourceExhausted);
  EXPECT_TRUE(DeviceBuffer::allocate(1 << 20));
  EXPECT_FALSE(has_sticky_error());
}

TEST_F(DeviceRoom, AGraphReplaysWhatWasCaptured) {
  std::vector<int32_t> values(1000);
  std::iota(values.begin(), values.end(), 7);
  const DeviceArray<int32_t> source = to_device(values);
  const DeviceArray<int32_t> target(values.size());
  const CudaGraph graph =
      CudaGraph::capture(stream(), [&] {
        return status_of(cudaMemcpyAsync(target.data(), source.data(), values.size() * sizeof(int32_t),
                                         cudaMemcpyDeviceToDevice, stream().get()),
                         "copy");
      }).value();
  EXPECT_NE(target.host(), values) << "capturing must not run the work";
  ASSERT_TRUE(graph.launch(stream()));
  finish();
  EXPECT_EQ(target.host(), values);
}

TEST_F(DeviceRoom, AFailedCaptureLeavesTheStreamUsable) {
  const auto graph =
      CudaGraph::capture(stream(), [] { return Status(fail(ErrorCode::kInvalidArgument, "no")); });
  ASSERT_FALSE(graph);
  EXPECT_EQ(graph.error().code, ErrorCode::kInvalidArgument);
  const DeviceArray<int32_t> target(4);
  ASSERT_EQ(cudaMemsetAsync(target.data(), 0, 16, stream().get()), cudaSuccess);
  finish();
  EXPECT_EQ(target.host(), std::vector<int32_t>(4, 0));
}

}  // namespace
}  // namespace crible::cuda
