#include "engine/cuda/parallel_runner.h"

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <thread>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/units.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/device_scope.h"
#include "engine/cuda/parallel_workspace.h"

namespace crible::cuda {
namespace {

// Sums of more than two ranks are added in an order that depends on how much there is to add.
Status check_settings(const EngineConfig& requested) {
  if (!requested.deterministic || requested.tensor_parallel_size <= 2) return {};
  return fail(ErrorCode::kUnsupported,
              "deterministic holds for a tensor-parallel-size of at most 2, not {}: the order in which NCCL adds the "
              "results of more GPUs depends on the batch; leave one of the two out",
              requested.tensor_parallel_size);
}

}  // namespace

Result<std::unique_ptr<StepRunner>> ParallelRunner::load(const std::filesystem::path& path,
                                                         const EngineConfig& requested) {
  CRIBLE_RETURN_IF_ERROR(check_settings(requested));
  CRIBLE_TRY(const std::vector<int> devices, first_gpus(requested.tensor_parallel_size));
  CRIBLE_TRY(std::vector<Rank> ranks, open_ranks(devices));
  // Before the weights: a missing library is known at once.
  CRIBLE_TRY(GpuGroup group, GpuGroup::create(devices));
  const TimePoint start = now();
  CRIBLE_TRY(DeviceModel model, load_device_model(path, requested, devices));
  log_info("{} GPUs: {} of {} weights in {:.2f} s", devices.size(), format_bytes(model.info.weight_bytes),
           model.info.quantization, to_seconds(now() - start));
  std::unique_ptr<ParallelRunner> runner(
      new ParallelRunner(std::move(ranks), std::move(group), std::move(model)));
  CRIBLE_RETURN_IF_ERROR(runner->try_out());
  CRIBLE_RETURN_IF_ERROR(runner->measure_memory());
  return runner;
}

// NCCL connects ways for small and for large messages when the first of each comes: here, not in a request.
Status ParallelRunner::try_out() {
  constexpr int64_t kSizes[] = {4096, 16 * 1024 * 1024};
  const __nv_bfloat16 one = __float2bfloat16_rn(1.0f);
  const std::vector<__nv_bfloat16> ones(static_cast<size_t>(kSizes[1]), one);
  std::vector<DeviceBuffer> buffers;
  std::vector<GpuGroup::Part> parts;
  for (const Rank& rank : ranks()) {
    const DeviceScope scope(rank.device);
    CRIBLE_TRY(DeviceBuffer buffer, DeviceBuffer::allocate(kSizes[1] * 2));
    parts.push_back({.data = buffer.data(), .stream = rank.stream.get()});
    buffers.push_back(std::move(buffer));
  }
  for (const int64_t size : kSizes) {
    for (size_t r = 0; r < ranks().size(); ++r) {
      const DeviceScope scope(ranks()[r].device);
      CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy(buffers[r].data(), ones.data(), static_cast<size_t>(size) * 2,
                                             cudaMemcpyHostToDevice));
    }
    CRIBLE_RETURN_IF_ERROR(group_.sum_bf16(parts, size));
    CRIBLE_RETURN_IF_ERROR(synchronize());
    for (size_t r = 0; r < ranks().size(); ++r) {
      __nv_bfloat16 last;
      CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy(&last, buffers[r].as<__nv_bfloat16>() + size - 1, sizeof last,
                                             cudaMemcpyDeviceToHost));
      if (__bfloat162float(last) == static_cast<float>(num_ranks())) continue;
      return fail(ErrorCode::kInternal, "GPU {}: {} ones from {} GPUs add up to {}; check the links between them",
                  ranks()[r].device, num_ranks(), num_ranks(), __bfloat162float(last));
    }
  }
  CRIBLE_RETURN_IF_ERROR(group_.gather_float(parts, kSizes[0] / num_ranks()));
  return synchronize();
}

MemoryNeeds ParallelRunner::workspace_needs(const DecoderWeights& weights, const EngineConfig& resolved) const {
  return ParallelWorkspace::needs(weights, resolved);
}

Result<std::unique_ptr<GpuWorkspace>> ParallelRunner::make_workspace(const EngineConfig& resolved,
                                                                     const MemoryPlan& plan, MatmulChoices& choices) {
  const DecoderShares& shares = device_model().shares;
  std::vector<ParallelDecoder::RankPlace> places;
  for (size_t r = 0; r < ranks().size(); ++r) {
    places.push_back({.device = ranks()[r].device, .stream = &ranks()[r].stream, .weights = &shares.ranks[r]});
  }
  return ParallelWorkspace::create(places, shares.rope, group_, resolved, plan, choices);
}

// The healthy GPUs wait for the other within a collective, for good if nobody ends it.
Status ParallelRunner::wait_for_end(size_t event) {
  Status done = poll(event);
  if (!done) group_.abort();
  return done;
}

Status ParallelRunner::poll(size_t event) {
  // Asking NCCL takes longer than asking for an event.
  constexpr int kPollsPerCheck = 256;
  size_t rank = 0;
  for (int polls = 1; rank < ranks().size(); ++polls) {
    const auto reached = ranks()[rank].ends[event].reached();
    if (!reached) {
      return tl::unexpected<Error>(with_context(reached.error(), fmt::format("GPU {}", ranks()[rank].device)));
    }
    if (*reached) {
      ++rank;
      continue;
    }
    if (polls % kPollsPerCheck == 0) {
      CRIBLE_RETURN_IF_ERROR(group_.check());
      // A fault of a later rank is why an earlier one does not come to an end.
      for (const Rank& other : ranks()) {
        const auto state = other.ends[event].reached();
        if (!state) {
          return tl::unexpected<Error>(with_context(state.error(), fmt::format("GPU {}", other.device)));
        }
      }
    }
    std::this_thread::yield();
  }
  return {};
}

std::string ParallelRunner::arithmetic() const {
  return fmt::format("cuda sm_90a, {} weights, {} ranks", model().quantization, num_ranks());
}

}  // namespace crible::cuda
