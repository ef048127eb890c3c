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
#include "device/cuda/device_properties.h"
#include "device/cuda/device_scope.h"
#include "engine/cuda/block_transfer.h"

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

template <typename Content>
Content part_of(Content content, int64_t rank, int64_t ranks) {
  CHECK(std::ssize(content) % ranks == 0, "{} bytes of {} ranks", content.size(), ranks);
  const size_t bytes = content.size() / static_cast<size_t>(ranks);
  return content.subspan(static_cast<size_t>(rank) * bytes, bytes);
}

}  // namespace

Result<std::unique_ptr<StepRunner>> ParallelRunner::load(const std::filesystem::path& path,
                                                         const EngineConfig& requested) {
  CRIBLE_RETURN_IF_ERROR(check_settings(requested));
  CRIBLE_TRY(const std::vector<int> devices, first_gpus(requested.tensor_parallel_size));
  std::vector<Rank> ranks;
  for (const int device : devices) {
    const DeviceScope scope(device);
    CRIBLE_TRY(CudaStream stream, CudaStream::create());
    CRIBLE_TRY(CudaEvent first, CudaEvent::create());
    CRIBLE_TRY(CudaEvent second, CudaEvent::create());
    ranks.push_back({.device = device, .stream = std::move(stream), .ends = {std::move(first), std::move(second)}});
  }
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

// Whatever is enqueued still uses the workspace. An error was reported by collect() already.
ParallelRunner::~ParallelRunner() { (void)synchronize(); }

// NCCL connects ways for small and for large messages when the first of each comes: here, not in a request.
Status ParallelRunner::try_out() {
  constexpr int64_t kSizes[] = {4096, 16 * 1024 * 1024};
  const __nv_bfloat16 one = __float2bfloat16_rn(1.0f);
  const std::vector<__nv_bfloat16> ones(static_cast<size_t>(kSizes[1]), one);
  std::vector<DeviceBuffer> buffers;
  std::vector<GpuGroup::Part> parts;
  for (const Rank& rank : ranks_) {
    const DeviceScope scope(rank.device);
    CRIBLE_TRY(DeviceBuffer buffer, DeviceBuffer::allocate(kSizes[1] * 2));
    parts.push_back({.data = buffer.data(), .stream = rank.stream.get()});
    buffers.push_back(std::move(buffer));
  }
  for (const int64_t size : kSizes) {
    for (size_t r = 0; r < ranks_.size(); ++r) {
      const DeviceScope scope(ranks_[r].device);
      CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy(buffers[r].data(), ones.data(), static_cast<size_t>(size) * 2,
                                             cudaMemcpyHostToDevice));
    }
    CRIBLE_RETURN_IF_ERROR(group_.sum_bf16(parts, size));
    CRIBLE_RETURN_IF_ERROR(synchronize());
    for (size_t r = 0; r < ranks_.size(); ++r) {
      __nv_bfloat16 last;
      CRIBLE_CUDA_RETURN_IF_ERROR(cudaMemcpy(&last, buffers[r].as<__nv_bfloat16>() + size - 1, sizeof last,
                                             cudaMemcpyDeviceToHost));
      if (__bfloat162float(last) == static_cast<float>(num_ranks())) continue;
      return fail(ErrorCode::kInternal, "GPU {}: {} ones from {} GPUs add up to {}; check the links between them",
                  ranks_[r].device, num_ranks(), num_ranks(), __bfloat162float(last));
    }
  }
  CRIBLE_RETURN_IF_ERROR(group_.gather_float(parts, kSizes[0] / num_ranks()));
  return synchronize();
}

Status ParallelRunner::measure_memory() {
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const DeviceScope scope(ranks_[r].device);
    CRIBLE_TRY(const DeviceProperties device, device_properties());
    device_bytes_ = r == 0 ? device.total_bytes : std::min(device_bytes_, device.total_bytes);
    runtime_bytes_ = std::max(runtime_bytes_, device.total_bytes - device.free_bytes -
                                                  model_.shares.ranks[r].bytes() + kGrowingRuntimeBytes);
  }
  return {};
}

KvShape ParallelRunner::kv_shape() const {
  const DecoderShape& shape = model_.shares.ranks[0].shape();
  return {.layers = shape.layers, .kv_heads = model_.kv_heads, .head_size = shape.head_size};
}

MachineLimits ParallelRunner::machine() const {
  MachineLimits limits = this_machine();
  limits.memory_bytes = device_bytes_;
  limits.gpu = true;
  return limits;
}

MemoryNeeds ParallelRunner::memory_needs(const EngineConfig& resolved) const {
  const DecoderWeights& rank = model_.shares.ranks[0];
  MemoryNeeds needs = ParallelWorkspace::needs(rank, resolved);
  needs.weight_bytes = rank.bytes();
  needs.runtime_bytes = runtime_bytes_;
  return needs;
}

Status ParallelRunner::allocate(const EngineConfig& resolved, const MemoryPlan& plan) {
  CHECK(!oldest_, "a step is under way while memory is made anew");
  CRIBLE_RETURN_IF_ERROR(synchronize());
  workspace_.reset();
  std::vector<ParallelDecoder::RankPlace> places;
  for (size_t r = 0; r < ranks_.size(); ++r) {
    places.push_back(
        {.device = ranks_[r].device, .stream = &ranks_[r].stream, .weights = &model_.shares.ranks[r]});
  }
  CRIBLE_TRY(workspace_, ParallelWorkspace::create(places, model_.shares.rope, group_, resolved, plan));
  return {};
}

void ParallelRunner::read_back(EngineConfig& effective) const {
  const KvPool& pool = workspace_->decoder().pool(0);
  effective.kv_cache_memory_bytes = pool.bytes();
  effective.kv_cache_dtype = pool.type() == KvType::kFp8 ? "fp8" : "bf16";
  effective.max_model_len = workspace_->batch().limits().max_context;
  effective.deterministic = workspace_->decoder().decoder(0).options().deterministic;
  effective.tensor_parallel_size = num_ranks();
}

Status ParallelRunner::launch(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) {
  CHECK(!newest_, "two steps are under way");
  CRIBLE_RETURN_IF_ERROR(workspace_->enqueue(entries, copies));
  for (const Rank& rank : ranks_) {
    const DeviceScope scope(rank.device);
    CRIBLE_RETURN_IF_ERROR(rank.ends[next_event_].record(rank.stream));
  }
  (oldest_ ? newest_ : oldest_) = Flight{workspace_->results(), next_event_};
  next_event_ = 1 - next_event_;
  return {};
}

Result<StepOutput> ParallelRunner::collect() {
  CHECK(oldest_, "no step is under way");
  const Flight flight = *std::exchange(oldest_, std::exchange(newest_, std::nullopt));
  if (const Status done = wait(flight.event); !done) {
    // The healthy GPUs wait for the other within a collective, for good if nobody ends it.
    group_.abort();
    return tl::unexpected<Error>(done.error());
  }
  return flight.output;
}

Status ParallelRunner::wait(size_t event) {
  // Asking NCCL takes longer than asking for an event.
  constexpr int kPollsPerCheck = 256;
  size_t rank = 0;
  for (int polls = 1; rank < ranks_.size(); ++polls) {
    const auto reached = ranks_[rank].ends[event].reached();
    if (!reached) {
      return tl::unexpected<Error>(with_context(reached.error(), fmt::format("GPU {}", ranks_[rank].device)));
    }
    if (*reached) {
      ++rank;
      continue;
    }
    if (polls % kPollsPerCheck == 0) {
      CRIBLE_RETURN_IF_ERROR(group_.check());
      // A fault of a later rank is why an earlier one does not come to an end.
      for (const Rank& other : ranks_) {
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

Status ParallelRunner::synchronize() const {
  for (const Rank& rank : ranks_) {
    const DeviceScope scope(rank.device);
    CRIBLE_RETURN_IF_ERROR(rank.stream.synchronize());
  }
  return {};
}

bool ParallelRunner::prepare() {
  const auto captured = workspace_->capture_next();
  if (!captured) log_warning("a decode graph could not be captured: {}", captured.error().message);
  return captured.value_or(false);
}

Status ParallelRunner::read_block(BlockId block, std::span<std::byte> content) const {
  for (int64_t r = 0; r < num_ranks(); ++r) {
    const Rank& rank = ranks_[static_cast<size_t>(r)];
    const DeviceScope scope(rank.device);
    CRIBLE_RETURN_IF_ERROR(cuda::read_block(rank.stream, workspace_->decoder().pool(r), block,
                                            part_of(content, r, num_ranks())));
  }
  return {};
}

Status ParallelRunner::write_block(BlockId block, std::span<const std::byte> content) {
  for (int64_t r = 0; r < num_ranks(); ++r) {
    const Rank& rank = ranks_[static_cast<size_t>(r)];
    const DeviceScope scope(rank.device);
    CRIBLE_RETURN_IF_ERROR(cuda::write_block(rank.stream, workspace_->decoder().pool(r), block,
                                             part_of(content, r, num_ranks())));
  }
  return {};
}

std::string ParallelRunner::arithmetic() const {
  return fmt::format("cuda sm_90a, {} weights, {} ranks", model_.info.quantization, num_ranks());
}

}  // namespace crible::cuda
