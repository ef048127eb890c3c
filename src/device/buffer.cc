#include "device/buffer.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/units.h"

namespace crible {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kHugePage = 2 * kMiB;

}  // namespace

Result<Buffer> Buffer::allocate(int64_t bytes) {
  if (bytes < 0) {
    return fail(ErrorCode::kInvalidArgument, "cannot allocate a negative size ({} bytes)", bytes);
  }
  Buffer buffer;
  if (bytes == 0) return buffer;
  const bool large = bytes >= kHugePage;
  const int64_t alignment = large ? kHugePage : kCacheLine;
  if (bytes > INT64_MAX - alignment) {
    return fail(ErrorCode::kResourceExhausted, "cannot allocate {} bytes: larger than the address space",
                bytes);
  }
  const int64_t padded = round_up(bytes, alignment);
  void* memory = nullptr;
  if (posix_memalign(&memory, static_cast<size_t>(alignment), static_cast<size_t>(padded)) != 0) {
    return fail(ErrorCode::kResourceExhausted,
                "cannot allocate {} of memory; lower the memory budget or free some",
                format_bytes(bytes));
  }
  if (large) {
    // Huge pages save most of the address translation on weights and caches. Populating now makes
    // the resident size equal to the plan from the start and moves every page fault out of the
    // steps; kernels before 5.14 do not know it, and then pages come with their first use.
    madvise(memory, static_cast<size_t>(padded), MADV_HUGEPAGE);
#ifdef MADV_POPULATE_WRITE
    if (madvise(memory, static_cast<size_t>(padded), MADV_POPULATE_WRITE) != 0 && errno == ENOMEM) {
      std::free(memory);
      return fail(ErrorCode::kResourceExhausted,
                  "the system has no room for {} of memory; lower the memory budget or free some",
                  format_bytes(bytes));
    }
#endif
  }
  buffer.data_ = memory;
  buffer.bytes_ = bytes;
  return buffer;
}

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Buffer::~Buffer() { std::free(data_); }

}  // namespace crible
