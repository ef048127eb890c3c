// An ordered queue of operations on one device. Every op takes the stream first, is enqueued in call
// order, and may return before it has run; results may be read after synchronize(). The CPU stream
// runs each op at once on its thread pool, so enqueue and completion coincide there.
// Owned and used by one thread (the engine's); the pool's workers never outlive it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/result.h"
#include "device/cpu/cpu_features.h"

namespace crible {

class ThreadPool;

class Stream {
 public:
  // threads: workers including the caller; 0 = one per online core.
  // isa: the kernel family of its ops; without it, chosen_cpu_isa(). One the processor lacks is an error.
  static Result<Stream> create_cpu(int threads);
  static Result<Stream> create_cpu(int threads, CpuIsa isa);

  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;
  ~Stream();

  void synchronize() {}
  ThreadPool& pool() { return *pool_; }
  int threads() const;
  CpuIsa isa() const { return isa_; }

  // Scratch for ops (quantised activations, partial sums), 64-byte aligned. Reserved from the memory
  // plan before ready: an op that needs more than was reserved is a broken invariant (CHECK).
  Status reserve_scratch(int64_t bytes);
  std::byte* scratch(int64_t bytes);
  int64_t scratch_bytes() const;

 private:
  Stream();
  struct Impl;
  std::unique_ptr<Impl> impl_;
  ThreadPool* pool_ = nullptr;
  CpuIsa isa_ = CpuIsa::kScalar;
};

}  // namespace crible
