#include "engine/cuda/cuda_runner.h"

#include "base/check.h"
#include "base/log.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/device_properties.h"
#include "device/stream.h"
#include "model/checkpoint.h"
#include "model/model_registry.h"

namespace crible::cuda {
namespace {

// What is loaded with the first steps and with the graphs of all batch sizes: kernels, cuBLASLt's, the graphs
// themselves. Measured after serving: docs/benchmarks/gpu.md.
constexpr int64_t kGrowingRuntimeBytes = 640 * kMiB;

std::optional<WeightFormat> requested_format(const EngineConfig& requested) {
  if (requested.quantization == "bf16") return WeightFormat(WeightType::kBf16);
  if (requested.quantization == "fp8") return WeightFormat(WeightType::kFp8);
  return std::nullopt;
}

Result<LoadedDecoder> load_weights(const CudaStream& stream, Checkpoint& checkpoint,
                                   const DecoderDescription& description, const EngineConfig& requested) {
  const std::optional<WeightFormat> format = requested_format(requested);
  if (requested.load_format != "dummy") return load_decoder_weights(checkpoint, description, format);
  CRIBLE_TRY(const DecoderShape shape, decoder_shape(checkpoint, description));
  return dummy_decoder_weights(stream, checkpoint, description,
                               format.value_or(configured_format(checkpoint.quantization(), shape)));
}

std::string_view name_of(WeightType type) {
  switch (type) {
    case WeightType::kBf16: return "BF16";
    case WeightType::kFp8: return "FP8";
    case WeightType::kInt4: return "INT4";
  }
  CHECK(false, "weights of type {}", static_cast<int>(type));
}

EngineModelInfo model_info(const Checkpoint& checkpoint, const DecoderDescription& description,
                           const DecoderWeights& weights) {
  return {.architecture = description.config.architecture,
          .quantization = std::string(name_of(weights.type())),
          .path = checkpoint.path(),
          .parameters = checkpoint.parameters() > 0 ? checkpoint.parameters() : weights.shape().parameters(),
          .weight_bytes = weights.bytes(),
          .context_length = description.config.context_length,
          .vocabulary = description.config.vocabulary,
          .layers = description.config.layers};
}

}  // namespace

Result<std::unique_ptr<StepRunner>> CudaRunner::load(const std::filesystem::path& path,
                                                     const EngineConfig& requested) {
  CRIBLE_TRY(const DeviceProperties device, device_properties());
  CRIBLE_TRY(CudaStream stream, CudaStream::create());
  CRIBLE_TRY(Stream host, Stream::create_cpu(static_cast<int>(requested.threads)));
  const bool dummy = requested.load_format == "dummy";
  CRIBLE_TRY(const std::unique_ptr<Checkpoint> checkpoint,
             open_checkpoint(path, host, dummy ? LoadFormat::kDummy : LoadFormat::kAuto));
  CRIBLE_TRY(const DecoderDescription description, describe(*checkpoint));
  const TimePoint start = now();
  auto loaded = load_weights(stream, *checkpoint, description, requested);
  if (!loaded) return tl::unexpected<Error>(loaded.error());
  EngineModelInfo info = model_info(*checkpoint, description, loaded->weights);
  log_info("{}: {} of {} weights in {:.2f} s", device.name, format_bytes(info.weight_bytes), info.quantization,
           to_seconds(now() - start));
  std::unique_ptr<CudaRunner> runner(
      new CudaRunner(std::move(stream), std::move(*loaded), std::move(info), device.total_bytes));
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
  return workspace_->read_block(stream_, block, content);
}

Status CudaRunner::write_block(BlockId block, std::span<const std::byte> content) {
  return workspace_->write_block(stream_, block, content);
}

// The choice of algorithms is measured, so bits are those of one process.
std::string CudaRunner::arithmetic() const { return fmt::format("cuda sm_90a, {} weights", info_.quantization); }

}  // namespace crible::cuda
