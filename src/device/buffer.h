// One owned allocation in device memory (on the CPU: 64-byte aligned, in huge pages where the
// kernel gives them). Contents start undefined. Allocation failure is an Error, not an exception.
// Made at start and at reconfiguration only: nothing allocates in a step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace crible {

class ThreadPool;

class Buffer {
 public:
  Buffer() = default;
  // pool: threads that touch the pages of a large one together; without it the caller does.
  static Result<Buffer> allocate(int64_t bytes, ThreadPool* pool = nullptr);

  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  template <typename T>
  T* as() const { return static_cast<T*>(data_); }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace crible
