#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#include "base/units.h"
#include "device/buffer.h"
#include "device/cpu/cpu_features.h"
#include "device/dtype.h"
#include "device/stream.h"

namespace crible {
namespace {

TEST(DType, BlocksMatchTheFileFormats) {
  EXPECT_EQ(dtype_row_bytes(DType::kF32, 10), 40);
  EXPECT_EQ(dtype_row_bytes(DType::kF16, 10), 20);
  EXPECT_EQ(dtype_row_bytes(DType::kBF16, 10), 20);
  EXPECT_EQ(dtype_row_bytes(DType::kQ8_0, 64), 68);
  EXPECT_EQ(dtype_row_bytes(DType::kQ4_0, 64), 36);
  EXPECT_EQ(dtype_row_bytes(DType::kQ4_1, 64), 40);
  EXPECT_STREQ(dtype_name(DType::kQ4_1), "q4_1");
}

TEST(Buffer, IsAlignedWritableAndMovable) {
  for (int64_t bytes : {int64_t{1}, int64_t{100}, 3 * kMiB + 5}) {
    Buffer buffer = Buffer::allocate(bytes).value();
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    std::memset(buffer.data(), 0x5A, static_cast<size_t>(bytes));
    const void* data = buffer.data();
    Buffer other = std::move(buffer);
    EXPECT_EQ(other.data(), data);
    EXPECT_EQ(buffer.data(), nullptr);
    buffer = std::move(other);
    EXPECT_EQ(buffer.as<uint8_t>()[bytes - 1], 0x5A);
  }
  EXPECT_EQ(Buffer::allocate(0).value().data(), nullptr);
}

// A model's matrices are a few MiB each: what rounding to huge pages adds to every one of them would be a large part.
TEST(Buffer, HoldsNoMoreThanItsPages) {
  const auto resident_bytes = [] {
    std::ifstream statm("/proc/self/statm");
    int64_t size = 0, resident = 0;
    statm >> size >> resident;
    return resident * sysconf(_SC_PAGESIZE);
  };
  const int64_t bytes = 2 * kMiB + 100 * kKiB, count = 40, before = resident_bytes();
  std::vector<Buffer> buffers;
  for (int64_t i = 0; i < count; ++i) {
    buffers.push_back(Buffer::allocate(bytes).value());
    std::memset(buffers.back().data(), 0x5A, static_cast<size_t>(bytes));
  }
  const int64_t held = resident_bytes() - before;
  EXPECT_GE(held, count * bytes * 9 / 10);
  EXPECT_LE(held, count * bytes + 4 * kMiB);
  buffers.clear();
  EXPECT_LE(resident_bytes() - before, 4 * kMiB);
}

TEST(Buffer, TooMuchIsAnErrorNotAnAbort) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_EQ(Buffer::allocate(int64_t{1} << 62).error().code, ErrorCode::kResourceExhausted);
#endif
  EXPECT_EQ(Buffer::allocate(INT64_MAX).error().code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(Buffer::allocate(-1).error().code, ErrorCode::kInvalidArgument);
}

TEST(Stream, KeepsItsScratchAndItsThreads) {
  Stream stream = Stream::create_cpu(2, CpuIsa::kScalar).value();
  EXPECT_EQ(stream.threads(), 2);
  EXPECT_EQ(stream.scratch_bytes(), 0);
  ASSERT_TRUE(stream.reserve_scratch(1000));
  EXPECT_GE(stream.scratch_bytes(), 1000);
  std::byte* scratch = stream.scratch(1000);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(scratch) % 64, 0u);
  ASSERT_TRUE(stream.reserve_scratch(10));
  EXPECT_EQ(stream.scratch(1000), scratch) << "a smaller reservation must keep the larger one";
  EXPECT_GE(Stream::create_cpu(0, CpuIsa::kScalar)->threads(), 1);
  EXPECT_EQ(Stream::create_cpu(-1).error().code, ErrorCode::kInvalidArgument);
}

TEST(StreamDeathTest, MoreScratchThanReservedIsABrokenInvariant) {
  Stream stream = Stream::create_cpu(1, CpuIsa::kScalar).value();
  ASSERT_TRUE(stream.reserve_scratch(64));
  EXPECT_DEATH(stream.scratch(65), "65 bytes of scratch, 64 are reserved");
}

TEST(CpuFeatures, EnvironmentLowersTheChoiceAndNeverRaisesIt) {
  ASSERT_EQ(setenv("CRIBLE_CPU_ISA", "scalar", 1), 0);
  EXPECT_EQ(chosen_cpu_isa().value(), CpuIsa::kScalar);
  EXPECT_EQ(Stream::create_cpu(1)->isa(), CpuIsa::kScalar);
  ASSERT_EQ(setenv("CRIBLE_CPU_ISA", "sse9", 1), 0);
  EXPECT_EQ(chosen_cpu_isa().error().code, ErrorCode::kInvalidArgument);
  ASSERT_EQ(setenv("CRIBLE_CPU_ISA", "avx512", 1), 0);
  if (widest_cpu_isa() < CpuIsa::kAvx512) {
    EXPECT_EQ(chosen_cpu_isa().error().code, ErrorCode::kUnsupported);
  } else {
    EXPECT_EQ(chosen_cpu_isa().value(), CpuIsa::kAvx512);
  }
  ASSERT_EQ(unsetenv("CRIBLE_CPU_ISA"), 0);
  EXPECT_EQ(chosen_cpu_isa().value(), widest_cpu_isa());
}

}  // namespace
}  // namespace crible
