#include "device/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/units.h"
#include "device/cpu/thread_pool.h"

namespace crible {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kHugePage = 2 * kMiB;

constexpr int64_t kPopulatePiece = kHugePage;  // cleared in much longer than a call takes

// Populating now makes the resident size equal to the plan from the start and moves every page fault out
// of the steps; kernels before 5.14 do not know it, and then pages come with their first use. False if the
// system has no room.
bool populate([[maybe_unused]] std::byte* memory, [[maybe_unused]] int64_t bytes, [[maybe_unused]] ThreadPool* pool) {
  std::atomic<bool> room{true};
#ifdef MADV_POPULATE_WRITE
  const auto piece = [&](int64_t index, int) {
    const int64_t begin = index * kPopulatePiece;
    const auto length = static_cast<size_t>(std::min(kPopulatePiece, bytes - begin));
    if (madvise(memory + begin, length, MADV_POPULATE_WRITE) != 0 && errno == ENOMEM) room = false;
  };
  const int64_t pieces = ceil_div(bytes, kPopulatePiece);
  if (pool != nullptr) {
    pool->parallel_for(pieces, piece);
  } else {
    for (int64_t index = 0; index < pieces; ++index) piece(index, 0);
  }
#endif
  return room;
}

}  // namespace

Result<Buffer> Buffer::allocate(int64_t bytes, ThreadPool* pool) {
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
    // Huge pages save most of the address translation on weights and caches.
    madvise(memory, static_cast<size_t>(padded), MADV_HUGEPAGE);
    if (!populate(static_cast<std::byte*>(memory), padded, pool)) {
      std::free(memory);
      return fail(ErrorCode::kResourceExhausted,
                  "the system has no room for {} of memory; lower the memory budget or free some",
                  format_bytes(bytes));
    }
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
