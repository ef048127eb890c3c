#include "engine/cuda/gpu_runner.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/device_properties.h"
#include "device/cuda/device_scope.h"
#include "engine/cuda/block_transfer.h"

namespace crible::cuda {
namespace {

template <typename Content>
Content part_of(Content content, int64_t rank, int64_t ranks) {
  CHECK(std::ssize(content) % ranks == 0, "{} bytes of {} ranks", content.size(), ranks);
  const size_t bytes = content.size() / static_cast<size_t>(ranks);
  return content.subspan(static_cast<size_t>(rank) * bytes, bytes);
}

}  // namespace

Result<std::vector<GpuRunner::Rank>> GpuRunner::open_ranks(std::span<const int> devices) {
  std::vector<Rank> ranks;
  for (const int device : devices) {
    const DeviceScope scope(device);
    CRIBLE_TRY(CudaStream stream, CudaStream::create());
    CRIBLE_TRY(CudaEvent first, CudaEvent::create());
    CRIBLE_TRY(CudaEvent second, CudaEvent::create());
    ranks.push_back({.device = device, .stream = std::move(stream), .ends = {std::move(first), std::move(second)}});
  }
  return ranks;
}

// An error was reported by collect() already.
void GpuRunner::release() {
  (void)synchronize();
  workspace_.reset();
}

Status GpuRunner::measure_memory() {
  for (size_t r = 0; r < ranks_.size(); ++r) {
    const DeviceScope scope(ranks_[r].device);
    CRIBLE_TRY(const DeviceProperties device, device_properties());
    device_bytes_ = r == 0 ? device.total_bytes : std::min(device_bytes_, device.total_bytes);
    runtime_bytes_ = std::max(runtime_bytes_, device.total_bytes - device.free_bytes -
                                                  model_.shares.ranks[r].bytes() + kGrowingRuntimeBytes);
  }
  return {};
}

MemoryNeeds GpuRunner::memory_needs(const EngineConfig& resolved) const {
  const DecoderWeights& weights = model_.shares.ranks[0];
  MemoryNeeds needs = workspace_needs(weights, resolved);
  needs.weight_bytes = weights.bytes();
  needs.runtime_bytes = runtime_bytes_;
  return needs;
}

KvShape GpuRunner::kv_shape() const {
  const DecoderShape& shape = model_.shares.ranks[0].shape();
  return {.layers = shape.layers, .kv_heads = model_.kv_heads, .head_size = shape.head_size};
}

MachineLimits GpuRunner::machine() const {
  MachineLimits limits = this_machine();
  limits.memory_bytes = device_bytes_;
  limits.gpu = true;
  return limits;
}

Status GpuRunner::allocate(const EngineConfig& resolved, const MemoryPlan& plan) {
  CHECK(!oldest_, "a step is under way while memory is made anew");
  CRIBLE_RETURN_IF_ERROR(synchronize());
  workspace_.reset();
  CRIBLE_TRY(workspace_, make_workspace(resolved, plan, choices_));
  return {};
}

void GpuRunner::read_back(EngineConfig& effective) const {
  const KvPool& pool = workspace_->pool(0);
  effective.kv_cache_memory_bytes = pool.bytes();
  effective.kv_cache_dtype = pool.type() == KvType::kFp8 ? "fp8" : "bf16";
  effective.max_model_len = workspace_->limits().max_context;
  effective.deterministic = workspace_->options().deterministic;
  effective.tensor_parallel_size = num_ranks();
}

Status GpuRunner::launch(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) {
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

Result<StepOutput> GpuRunner::collect() {
  CHECK(oldest_, "no step is under way");
  const Flight flight = *std::exchange(oldest_, std::exchange(newest_, std::nullopt));
  CRIBLE_RETURN_IF_ERROR(wait_for_end(flight.event));
  return flight.output;
}

Status GpuRunner::synchronize() const {
  for (const Rank& rank : ranks_) {
    const DeviceScope scope(rank.device);
    CRIBLE_RETURN_IF_ERROR(rank.stream.synchronize());
  }
  return {};
}

bool GpuRunner::prepare() {
  const auto captured = workspace_->capture_next();
  if (!captured) log_warning("a decode graph could not be captured: {}", captured.error().message);
  return captured.value_or(false);
}

Status GpuRunner::read_block(BlockId block, std::span<std::byte> content) const {
  for (int64_t r = 0; r < num_ranks(); ++r) {
    const Rank& rank = ranks_[static_cast<size_t>(r)];
    const DeviceScope scope(rank.device);
    CRIBLE_RETURN_IF_ERROR(
        cuda::read_block(rank.stream, workspace_->pool(r), block, part_of(content, r, num_ranks())));
  }
  return {};
}

Status GpuRunner::write_block(BlockId block, std::span<const std::byte> content) {
  for (int64_t r = 0; r < num_ranks(); ++r) {
    const Rank& rank = ranks_[static_cast<size_t>(r)];
    const DeviceScope scope(rank.device);
    CRIBLE_RETURN_IF_ERROR(
        cuda::write_block(rank.stream, workspace_->pool(r), block, part_of(content, r, num_ranks())));
  }
  return {};
}

}  // namespace crible::cuda
