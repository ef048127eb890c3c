// Owned memory: DeviceBuffer on the GPU, PinnedBuffer page-locked on the host (asynchronous copies need
// it). Contents start undefined. Made at start and at reconfiguration only; a full device is an Error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "base/result.h"

namespace crible::cuda {

enum class MemoryPlace { kDevice, kPinnedHost };

template <MemoryPlace kPlace>
class OwnedMemory {
 public:
  OwnedMemory() = default;
  static Result<OwnedMemory> allocate(int64_t bytes);

  OwnedMemory(OwnedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  OwnedMemory& operator=(OwnedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  OwnedMemory(const OwnedMemory&) = delete;
  OwnedMemory& operator=(const OwnedMemory&) = delete;
  ~OwnedMemory();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

using DeviceBuffer = OwnedMemory<MemoryPlace::kDevice>;
using PinnedBuffer = OwnedMemory<MemoryPlace::kPinnedHost>;

// Hands out aligned slices of one buffer in order; sizes are known from the memory plan, so running out
// is a broken invariant. With a null base it only counts, which is how a plan is made.
class DeviceArena {
 public:
  explicit DeviceArena(void* base = nullptr, int64_t bytes = 0)
      : base_(static_cast<std::byte*>(base)), capacity_(bytes) {}

  template <typename T>
  T* slice(int64_t count) {
    return reinterpret_cast<T*>(take(count * static_cast<int64_t>(sizeof(T))));
  }
  int64_t used_bytes() const { return used_; }

 private:
  std::byte* take(int64_t bytes);

  std::byte* base_;
  int64_t capacity_;
  int64_t used_ = 0;
};

}  // namespace crible::cuda
