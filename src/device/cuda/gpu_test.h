// For tests: a stream on the GPU, arrays to and from it, outputs poisoned before use. On a machine
// without one every test of the fixture reports "skipped: no GPU".
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <vector>

#include "device/cuda/cuda_status.h"
#include "device/cuda/cuda_stream.h"
#include "device/cuda/device_buffer.h"

namespace crible::cuda {

// A device array of known length. All bits set is NaN in BF16 and float32: what a kernel leaves unwritten
// shows.
template <typename T>
class DeviceArray {
 public:
  explicit DeviceArray(size_t count)
      : buffer_(DeviceBuffer::allocate(bytes_of(count)).value()), count_(count) {
    CRIBLE_CUDA_CHECK(cudaMemset(buffer_.data(), 0xFF, count * sizeof(T)));
    settle();
  }
  explicit DeviceArray(std::span<const T> values) : DeviceArray(values.size()) {
    CRIBLE_CUDA_CHECK(cudaMemcpy(buffer_.data(), values.data(), values.size_bytes(), cudaMemcpyHostToDevice));
    settle();
  }
  T* data() const { return buffer_.template as<T>(); }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    CRIBLE_CUDA_CHECK(cudaMemcpy(values.data(), buffer_.data(), count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  // Fills and small copies may still be under way when their calls return, and tests' streams do not wait for them.
  static void settle() { CRIBLE_CUDA_CHECK(cudaStreamSynchronize(cudaStreamLegacy)); }
  static int64_t bytes_of(size_t count) { return static_cast<int64_t>(count * sizeof(T)); }
  DeviceBuffer buffer_;
  size_t count_;
};

template <typename T>
DeviceArray<T> to_device(const std::vector<T>& values) {
  return DeviceArray<T>(std::span<const T>(values));
}

class GpuTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const Status available = device_available();
    if (!available) GTEST_SKIP() << "skipped: " << available.error().message;
    stream_.emplace(CudaStream::create().value());
  }
  CudaStream& stream() { return *stream_; }
  void finish() {
    const Status done = stream().synchronize();
    ASSERT_TRUE(done) << done.error().message;
  }

 private:
  std::optional<CudaStream> stream_;
};

}  // namespace crible::cuda
