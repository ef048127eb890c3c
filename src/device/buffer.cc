#include "device/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <utility>

#include "base/units.h"
#include "device/cpu/thread_pool.h"

namespace crible {
namespace {

constexpr int64_t kCacheLine = 64;
constexpr int64_t kPage = 4 * kKiB;
constexpr int64_t kHugePage = 2 * kMiB;  // and more: mapped; less: of the allocator

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

Error no_room(int64_t bytes) {
  return Error{ErrorCode::kResourceExhausted,
               fmt::format("the system has no room for {} of memory; lower the memory budget or free some",
                           format_bytes(bytes))};
}

int64_t mapped_bytes(int64_t bytes) { return round_up(bytes, kPage); }

// Begins with a huge page and ends with the page of the last byte. Rounded up to whole huge pages, the hundred
// matrices of a small model would hold a quarter more than they need; an allocator that places them side by side lets the
// last huge page of one reach into the room before the next.
Result<std::byte*> map_large(int64_t bytes, ThreadPool* pool) {
  const auto wanted = static_cast<size_t>(mapped_bytes(bytes)), spare = static_cast<size_t>(kHugePage);
  void* mapped = mmap(nullptr, wanted + spare, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return tl::unexpected(no_room(bytes));
  std::byte* begin = static_cast<std::byte*>(mapped);
  const size_t before = (spare - reinterpret_cast<uintptr_t>(begin) % spare) % spare;
  if (before != 0) munmap(begin, before);
  begin += before;
  if (spare != before) munmap(begin + wanted, spare - before);
  // Huge pages save most of the address translation on weights and caches.
  madvise(begin, wanted, MADV_HUGEPAGE);
  if (!populate(begin, static_cast<int64_t>(wanted), pool)) {
    munmap(begin, wanted);
    return tl::unexpected(no_room(bytes));
  }
  return begin;
}

void release(void* data, int64_t bytes) {
  if (bytes < kHugePage) {
    std::free(data);
  } else {
    munmap(data, static_cast<size_t>(mapped_bytes(bytes)));
  }
}

}  // namespace

Result<Buffer> Buffer::allocate(int64_t bytes, ThreadPool* pool) {
  if (bytes < 0) {
    return fail(ErrorCode::kInvalidArgument, "cannot allocate a negative size ({} bytes)", bytes);
  }
  Buffer buffer;
  if (bytes == 0) return buffer;
  if (bytes > INT64_MAX - 2 * kHugePage) {
    return fail(ErrorCode::kResourceExhausted, "cannot allocate {} bytes: larger than the address space",
                bytes);
  }
  if (bytes >= kHugePage) {
    CRIBLE_TRY(buffer.data_, map_large(bytes, pool));
  } else if (posix_memalign(&buffer.data_, kCacheLine, static_cast<size_t>(round_up(bytes, kCacheLine))) != 0) {
    return fail(ErrorCode::kResourceExhausted, "cannot allocate {} of memory; lower the memory budget or free some",
                format_bytes(bytes));
  }
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

Buffer::~Buffer() { release(data_, bytes_); }

}  // namespace crible
