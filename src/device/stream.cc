#include "device/stream.h"

#include <sched.h>

#include <algorithm>

#include "base/check.h"
#include "device/buffer.h"
#include "device/cpu/thread_pool.h"

namespace crible {
namespace {

constexpr int kMaxThreads = 1024;

// Cores this process may run on: a container's CPU set counts, not the machine's size.
int online_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

}  // namespace

struct Stream::Impl {
  std::unique_ptr<ThreadPool> pool;
  Buffer scratch;
};

Stream::Stream() : impl_(std::make_unique<Impl>()) {}
Stream::Stream(Stream&&) noexcept = default;
Stream& Stream::operator=(Stream&&) noexcept = default;
Stream::~Stream() = default;

Result<Stream> Stream::create_cpu(int threads) {
  CRIBLE_TRY(const CpuIsa isa, chosen_cpu_isa());
  return create_cpu(threads, isa);
}

Result<Stream> Stream::create_cpu(int threads, CpuIsa isa) {
  if (threads < 0 || threads > kMaxThreads) {
    return fail(ErrorCode::kInvalidArgument, "threads must be 0 (one per core) to {}, not {}", kMaxThreads,
                threads);
  }
  if (isa > widest_cpu_isa()) {
    return fail(ErrorCode::kUnsupported, "{} kernels were asked for, but this processor offers at most {}",
                cpu_isa_name(isa), cpu_isa_name(widest_cpu_isa()));
  }
  Stream stream;
  CRIBLE_TRY(stream.impl_->pool, ThreadPool::create(threads == 0 ? online_cores() : threads));
  stream.pool_ = stream.impl_->pool.get();
  stream.isa_ = isa;
  return stream;
}

int Stream::threads() const { return pool_->threads(); }

Status Stream::reserve_scratch(int64_t bytes) {
  if (bytes <= impl_->scratch.bytes()) return {};
  CRIBLE_TRY(impl_->scratch, Buffer::allocate(bytes));
  return {};
}

std::byte* Stream::scratch(int64_t bytes) {
  CHECK(bytes <= impl_->scratch.bytes(), "an op needs {} bytes of scratch, {} are reserved", bytes,
        impl_->scratch.bytes());
  return impl_->scratch.as<std::byte>();
}

int64_t Stream::scratch_bytes() const { return impl_->scratch.bytes(); }

}  // namespace crible
