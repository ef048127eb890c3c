// Collectives over several GPUs of one process, by NCCL: one rank a GPU, all driven by one host thread. Enqueues on
// the ranks' streams only, and may be captured into graphs if all ranks are captured together. A fault of one GPU
// or of a link shows in check(); what still waits on the others ends with abort().
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

struct ncclComm;

namespace crible::cuda {

struct NcclLibrary;

class GpuGroup {
 public:
  // One rank's part in a collective.
  struct Part {
    void* data;
    cudaStream_t stream;  // of the rank's GPU
  };

  // Rank r is devices[r]. Takes seconds and some hundred MB of each GPU.
  static Result<GpuGroup> create(std::span<const int> devices);
  GpuGroup(GpuGroup&& other) noexcept;
  GpuGroup& operator=(GpuGroup&& other) noexcept;
  // Waits for what is enqueued.
  ~GpuGroup();

  int64_t ranks() const { return std::ssize(communicators_); }

  // data: `elements` BF16 on every rank, replaced by their sums: the same bits on every rank.
  Status sum_bf16(std::span<const Part> parts, int64_t elements);
  // data: [ranks, elements] float32 on every rank, of which rank r has written the r-th row.
  Status gather_float(std::span<const Part> parts, int64_t elements);

  // An error of a communicator that came up while work ran. Does not wait.
  Status check() const;
  // Ends collectives under way; nothing can be enqueued afterwards.
  void abort();

 private:
  GpuGroup() = default;
  template <typename Enqueue>
  Status in_group(std::string_view what, Enqueue&& enqueue);

  const NcclLibrary* nccl_ = nullptr;
  std::vector<ncclComm*> communicators_;
  bool aborted_ = false;
};

// The GPUs that tensor-parallel ranks can have: 0 to count - 1. kInvalidArgument with the number found where there
// are fewer.
Result<std::vector<int>> first_gpus(int64_t count);

}  // namespace crible::cuda
