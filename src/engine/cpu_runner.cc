#include "engine/cpu_runner.h"

#include "base/check.h"
#include "model/checkpoint.h"

namespace crible {
namespace {

EngineModelInfo engine_model_info(const Model& model) {
  const ModelInfo& info = model.info();
  return {.architecture = info.architecture,
          .quantization = info.quantization,
          .path = info.path,
          .parameters = info.parameters,
          .weight_bytes = model.weight_bytes(),
          .context_length = info.context_length,
          .vocabulary = info.vocabulary,
          .layers = info.layers};
}

}  // namespace

CpuRunner::CpuRunner(std::unique_ptr<const Model> model, Stream stream, Pace pace)
    : model_(std::move(model)), stream_(std::move(stream)), pace_(pace), info_(engine_model_info(*model_)) {}

Result<std::unique_ptr<StepRunner>> CpuRunner::load(const std::filesystem::path& path, const EngineConfig& requested) {
  const int64_t threads = requested.threads > 0 ? requested.threads : this_machine().cores;
  CRIBLE_TRY(Stream stream, Stream::create_cpu(static_cast<int>(threads)));
  const LoadFormat format = requested.load_format == "dummy" ? LoadFormat::kDummy : LoadFormat::kAuto;
  CRIBLE_TRY(std::unique_ptr<Model> model, load_model(path, stream, format));
  return std::make_unique<CpuRunner>(std::move(model), std::move(stream));
}

MemoryNeeds CpuRunner::memory_needs(const EngineConfig& resolved) const {
  return crible::memory_needs(*model_, resolved);
}

// The former workspace's memory is used again where it suffices.
Status CpuRunner::allocate(const EngineConfig& resolved, const MemoryPlan& plan) {
  Buffer former;
  if (workspace_ != nullptr) former = workspace_->release_memory();
  workspace_.reset();
  kept_.clear();
  uncollected_ = 0;
  CRIBLE_TRY(workspace_, Workspace::allocate(*model_, resolved, plan, stream_, std::move(former)));
  return {};
}

void CpuRunner::read_back(EngineConfig& effective) const {
  effective.kv_cache_dtype = workspace_->kv_cache_dtype();
  effective.max_model_len = workspace_->batch().limits().max_context;
  effective.threads = stream_.threads();
  effective.kv_cache_memory_bytes = workspace_->num_blocks() * workspace_->kv_block_bytes();
}

Status CpuRunner::launch(std::span<const ScheduledSequence> entries, std::span<const BlockCopy> copies) {
  workspace_->copy_blocks(copies);
  Batch& arrays = workspace_->batch();
  const BatchView batch = arrays.build(entries);
  if (runs_ahead()) arrays.resolve_drawn(output_.tokens);
  model_->forward(stream_, batch, workspace_->forward_buffers());
  TokenLogprob* logprobs = arrays.reports() ? workspace_->logprobs_of(0) : nullptr;
  sample(stream_, {.logits = workspace_->logits(),
                   .logits_stride = info_.vocabulary,
                   .rows = batch.num_logit_rows,
                   .vocabulary = info_.vocabulary,
                   .parameters = arrays.sample_rows().data(),
                   .tokens = workspace_->tokens().data(),
                   .logprobs = logprobs,
                   .logprobs_stride = StepOutput::kLogprobStride});
  stream_.synchronize();
  const auto rows = static_cast<size_t>(batch.num_logit_rows);
  output_ = {.tokens = workspace_->tokens().first(rows), .logprobs = logprobs};
  if (!runs_ahead()) return {};
  KeptOutput& kept = kept_.emplace_back();
  uncollected_ += 1;
  kept.tokens.assign(output_.tokens.begin(), output_.tokens.end());
  if (logprobs != nullptr) kept.logprobs.assign(logprobs, logprobs + rows * StepOutput::kLogprobStride);
  return {};
}

Result<StepOutput> CpuRunner::collect() {
  if (!runs_ahead()) return output_;
  while (kept_.size() > uncollected_) kept_.pop_front();
  uncollected_ -= 1;
  const KeptOutput& kept = kept_.front();
  return StepOutput{.tokens = kept.tokens, .logprobs = kept.logprobs.empty() ? nullptr : kept.logprobs.data()};
}

Status CpuRunner::read_block(BlockId block, std::span<std::byte> content) const {
  workspace_->read_block(block, content);
  return {};
}

Status CpuRunner::write_block(BlockId block, std::span<const std::byte> content) {
  workspace_->write_block(block, content);
  return {};
}

}  // namespace crible
