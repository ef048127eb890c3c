#include "engine/cuda/cuda_runner.h"

#include "base/check.h"
#include "base/log.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/device_properties.h"
#include "engine/cuda/block_transfer.h"

namespace crible::cuda {
Result<std::unique_ptr<StepRunner>> CudaRunner::load(const std::filesystem::path& path,
                                                     const EngineConfig& requested) {
  CRIBLE_TRY(const DeviceProperties device, device_properties());
  CRIBLE_TRY(CudaStream stream, CudaStream::create());
  const TimePoint start = now();
  constexpr int kDevice[] = {0};
  CRIBLE_TRY(DeviceModel loaded, load_device_model(path, requested, kDevice));
  log_info("{}: {} of {} weights in {:.2f} s", device.name, format_bytes(loaded.info.weight_bytes),
           loaded.info.quantization, to_seconds(now() - start));
  std::unique_ptr<CudaRunner> runner(
      new CudaRunner(std::move(stream), {std::move(loaded.shares.ranks[0]), std::move(loaded.shares.rope)},
                     std::move(loaded.info), device.total_bytes));
  for (int i = 0; i < 2; ++i) {
    CRIBLE_TRY(CudaEvent event, CudaEvent::create());
    runner->events_.push_back(std::move(event));
  }
  CRIBLE_TRY(const DeviceProperties after, device_properties());
  runner->runtime_bytes_ =
      after.total_bytes - after.free_bytes - runner->info_.weight_bytes + kGrowingRuntimeBytes;
  return runner;
}

CudaRunner::CudaRunner(CudaStream stream, LoadedDecoder decoder, EngineModelInfo info, int64_t device_bytes)
    : stream_(std::move(stream)), decoder_(std::move(decoder)), info_(std::move(info)), device_bytes_(device_bytes) {}

// Whatever is enqueued still uses the workspace. An error was reported by collect() already.
CudaRunner::~CudaRunner() { (void)stream_.synchronize(); }

KvShape CudaRunner::kv_shape() const {
  const DecoderShape& shape = decoder_.weights.shape();
  return {.layers = shape.layers, .kv_heads = shape.kv_heads, .head_size = shape.head_size};
}

MachineLimits CudaRunner::machine() const {
  MachineLimits limits = this_machine();
  limits.memory_bytes = device_bytes_;
  limits.gpu = true;
  return limits;
}

MemoryNeeds CudaRunner::memory_needs(const EngineConfig& resolved) const {
  MemoryNeeds needs = DeviceWorkspace::needs(decoder_.weights, resolved);
  needs.weight_bytes = info_.weight_bytes;
  needs.runtime_bytes = runtime_bytes_;
  return needs;
}

Status CudaRunner::allocate(const EngineConfig& resolved, const MemoryPlan& plan) {
  CHECK(!oldest_, "a step is under way while memory is made anew");
  CRIBLE_RETURN_IF_ERROR(stream_.synchronize());
  workspace_.reset();
  CRIBLE_TRY(workspace_, DeviceWorkspace::create(stream_, decoder_.weights, decoder_.rope, resolved, plan));
  return {};
}

void CudaRunner::read_back(EngineConfig& effective) const {
  const KvPool& pool = workspace_->pool();
  effective.kv_cache_memory_bytes = pool.bytes();
  effective.kv_cache_dtype = pool.type() == KvType::kFp8 ? "fp8" : "bf16";
  effective.max_model_len = workspace_->batch().limits().max_context;
  effective.deterministic = workspace_->decoder().options().deterministic;
}

Status CudaRunner::launch(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) {
  CHECK(!newest_, "two steps are under way");
  CRIBLE_RETURN_IF_ERROR(workspace_->enqueue(stream_, entries, copies));
  CRIBLE_RETURN_IF_ERROR(events_[next_event_].record(stream_));
  (oldest_ ? newest_ : oldest_) = Flight{workspace_->results(), next_event_};
  next_event_ = 1 - next_event_;
  return {};
}

Result<StepOutput> CudaRunner::collect() {
  CHECK(oldest_, "no step is under way");
  const Flight flight = *std::exchange(oldest_, std::exchange(newest_, std::nullopt));
  CRIBLE_RETURN_IF_ERROR(events_[flight.event].synchronize());
  return flight.output;
}

bool CudaRunner::prepare() {
  const auto captured = workspace_->capture_next(stream_);
  if (!captured) log_warning("a decode graph could not be captured: {}", captured.error().message);
  return captured.value_or(false);
}

Status CudaRunner::read_block(BlockId block, std::span<std::byte> content) const {
  return cuda::read_block(stream_, workspace_->pool(), block, content);
}

Status CudaRunner::write_block(BlockId block, std::span<const std::byte> content) {
  return cuda::write_block(stream_, workspace_->pool(), block, content);
}

// The choice of algorithms is measured, so bits are those of one process.
std::string CudaRunner::arithmetic() const { return fmt::format("cuda sm_90a, {} weights", info_.quantization); }

}  // namespace crible::cuda
