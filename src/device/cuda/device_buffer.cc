#include "device/cuda/device_buffer.h"

#include <cuda_runtime_api.h>

#include "base/units.h"
#include "device/cuda/cuda_status.h"

namespace crible::cuda {
namespace {

// A TMA address and a 128-byte line both fall on it.
constexpr int64_t kSliceAlignment = 256;

}  // namespace

template <MemoryPlace kPlace>
Result<OwnedMemory<kPlace>> OwnedMemory<kPlace>::allocate(int64_t bytes) {
  CHECK(bytes >= 0, "{} bytes", bytes);
  OwnedMemory memory;
  if (bytes == 0) return memory;
  const bool on_device = kPlace == MemoryPlace::kDevice;
  const cudaError_t error = on_device ? cudaMalloc(&memory.data_, static_cast<size_t>(bytes))
                                      : cudaMallocHost(&memory.data_, static_cast<size_t>(bytes));
  if (error != cudaSuccess) {
    (void)cudaGetLastError();
    return tl::unexpected<Error>(status_of(error, fmt::format("allocate {} {}", format_bytes(bytes),
                                                              on_device ? "on the GPU" : "page-locked"))
                                     .error());
  }
  memory.bytes_ = bytes;
  return memory;
}

template <MemoryPlace kPlace>
OwnedMemory<kPlace>::~OwnedMemory() {
  // After a sticky error freeing fails too; the process is ending then.
  if (data_ != nullptr) (void)(kPlace == MemoryPlace::kDevice ? cudaFree(data_) : cudaFreeHost(data_));
}

template class OwnedMemory<MemoryPlace::kDevice>;
template class OwnedMemory<MemoryPlace::kPinnedHost>;

std::byte* DeviceArena::take(int64_t bytes) {
  std::byte* start = base_ == nullptr ? nullptr : base_ + used_;
  used_ += round_up(bytes, kSliceAlignment);
  CHECK(base_ == nullptr || used_ <= capacity_, "arena of {} bytes, {} wanted", capacity_, used_);
  return start;
}

}  // namespace crible::cuda
