#include "device/cuda/gpu_group.h"

#include <utility>

#include "base/check.h"
#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/nccl_library.h"

namespace crible::cuda {

Result<GpuGroup> GpuGroup::create(std::span<const int> devices) {
  CHECK(!devices.empty(), "a group of no GPU");
  GpuGroup group;
  CRIBLE_TRY(group.nccl_, nccl_library());
  // Making communicators changes the thread's current GPU.
  int before = 0;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaGetDevice(&before));
  std::vector<ncclComm_t> made(devices.size(), nullptr);
  const ncclResult_t result = group.nccl_->init_all(made.data(), static_cast<int>(devices.size()), devices.data());
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaSetDevice(before));
  CRIBLE_RETURN_IF_ERROR(status_of(*group.nccl_, result, fmt::format("connect {} GPUs", devices.size())));
  group.communicators_ = std::move(made);
  return group;
}

GpuGroup::GpuGroup(GpuGroup&& other) noexcept
    : nccl_(other.nccl_),
      communicators_(std::exchange(other.communicators_, {})),
      aborted_(other.aborted_) {}

GpuGroup& GpuGroup::operator=(GpuGroup&& other) noexcept {
  std::swap(nccl_, other.nccl_);
  std::swap(communicators_, other.communicators_);
  std::swap(aborted_, other.aborted_);
  return *this;
}

GpuGroup::~GpuGroup() {
  if (aborted_) return;
  for (ncclComm_t communicator : communicators_) (void)nccl_->destroy(communicator);
}

// The calls of one collective must be one group: alone, each would wait for the others. The group is closed in any
// case, else the thread could never enqueue again.
template <typename Enqueue>
Status GpuGroup::in_group(std::string_view what, Enqueue&& enqueue) {
  if (aborted_) return fail(ErrorCode::kUnavailable, "NCCL: {}: the group of GPUs has failed before", what);
  CRIBLE_RETURN_IF_ERROR(status_of(*nccl_, nccl_->group_start(), what));
  ncclResult_t first = ncclSuccess;
  for (size_t r = 0; r < communicators_.size() && first == ncclSuccess; ++r) first = enqueue(r);
  const ncclResult_t ended = nccl_->group_end();
  return status_of(*nccl_, first != ncclSuccess ? first : ended, what);
}

Status GpuGroup::sum_bf16(std::span<const Part> parts, int64_t elements) {
  CHECK(std::ssize(parts) == ranks(), "{} parts of {} ranks", parts.size(), ranks());
  return in_group("add up partial sums", [&](size_t r) {
    return nccl_->all_reduce(parts[r].data, parts[r].data, static_cast<size_t>(elements), ncclBfloat16, ncclSum,
                             communicators_[r], parts[r].stream);
  });
}

Status GpuGroup::gather_float(std::span<const Part> parts, int64_t elements) {
  CHECK(std::ssize(parts) == ranks(), "{} parts of {} ranks", parts.size(), ranks());
  return in_group("gather logits", [&](size_t r) {
    auto* data = static_cast<float*>(parts[r].data);
    return nccl_->all_gather(data + static_cast<int64_t>(r) * elements, data, static_cast<size_t>(elements),
                             ncclFloat32, communicators_[r], parts[r].stream);
  });
}

Status GpuGroup::check() const {
  if (aborted_) return fail(ErrorCode::kUnavailable, "the group of GPUs has failed");
  for (size_t r = 0; r < communicators_.size(); ++r) {
    ncclResult_t state = ncclSuccess;
    CRIBLE_RETURN_IF_ERROR(status_of(*nccl_, nccl_->async_error(communicators_[r], &state), "ask for errors"));
    if (state == ncclInProgress) continue;
    CRIBLE_RETURN_IF_ERROR(status_of(*nccl_, state, fmt::format("rank {} of {}", r, communicators_.size())));
  }
  return {};
}

void GpuGroup::abort() {
  if (std::exchange(aborted_, true)) return;
  for (ncclComm_t communicator : communicators_) (void)nccl_->abort(communicator);
}

Result<std::vector<int>> first_gpus(int64_t count) {
  int found = 0;
  if (cudaGetDeviceCount(&found) != cudaSuccess) {
    (void)cudaGetLastError();
    found = 0;
  }
  if (count < 1 || count > found) {
    return fail(ErrorCode::kInvalidArgument,
                "tensor-parallel-size is {} but this process sees {} GPU{}; ask for at most that, or make more visible "
                "(CUDA_VISIBLE_DEVICES)",
                count, found, found == 1 ? "" : "s");
  }
  constexpr int kHopper = 9;
  std::vector<int> devices;
  for (int device = 0; device < static_cast<int>(count); ++device) {
    int major = 0;
    CRIBLE_CUDA_RETURN_IF_ERROR(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    if (major != kHopper) {
      return fail(ErrorCode::kUnsupported, "GPU {} has compute capability {}.x; this build is for Hopper (9.0)", device,
                  major);
    }
    devices.push_back(device);
  }
  return devices;
}

}  // namespace crible::cuda
