#include "engine/engine.h"

#include <algorithm>

#include "base/check.h"
#include "engine/admission.h"

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

bool is_stop_token(const SamplingParams& sampling, TokenId token) {
  return !sampling.ignore_eos && std::find(sampling.stop_token_ids.begin(), sampling.stop_token_ids.end(), token) !=
                                     sampling.stop_token_ids.end();
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(std::unique_ptr<const Model> model, Stream stream,
                                               const EngineConfig& requested) {
  std::unique_ptr<Engine> engine(new Engine(std::move(model), std::move(stream)));
  CRIBLE_TRY(EngineDescription description, engine->describe(requested));
  CRIBLE_RETURN_IF_ERROR(engine->allocate(description, Buffer()));
  engine->description_ = std::move(description);
  CRIBLE_RETURN_IF_ERROR(engine->prove_forward());
  return engine;
}

void Engine::step() {
  const TimePoint start = now();
  const StepPlan& plan = scheduler_->plan();
  if (!plan.entries.empty()) {
    forward(plan);
    commit(plan);
  }
  counters_.steps += 1;
  counters_.step_seconds += to_seconds(now() - start);
}

void Engine::forward(const StepPlan& plan) {
  const BatchView batch = workspace_->batch().build(plan);
  model_->forward(stream_, batch, workspace_->forward_buffers());
  const int64_t vocabulary = model_->info().vocabulary;
  sample(stream_, {.logits = workspace_->logits(),
                   .logits_stride = vocabulary,
                   .rows = plan.num_samples,
                   .vocabulary = vocabulary,
                   .parameters = workspace_->batch().sample_rows().data(),
                   .tokens = workspace_->tokens().data()});
  stream_.synchronize();
}

void Engine::commit(const StepPlan& plan) {
  scheduler_->advance(plan);
  const TimePoint time = now();
  size_t row = 0;
  for (const ScheduledSequence& entry : plan.entries) {
    if (entry.samples) commit_token(*entry.sequence, workspace_->tokens()[row++], time);
  }
  ended_.splice(ended_.end(), scheduler_->take_ended());
}

void Engine::commit_token(Sequence& s, TokenId token, TimePoint time) {
  s.event.token = token;
  if (token < 0) {
    // The fault may lie in the sequence's cached content, which others would inherit.
    scheduler_->forget_content(s);
    s.event.error = Error{ErrorCode::kInternal, fmt::format("the model's logits for output token {} are not finite",
                                                            s.event.output_tokens + 1)};
    end(s, FinishReason::kError, time);
    return;
  }
  s.tokens.push_back(token);
  s.event.output_tokens += 1;
  counters_.generation_tokens += 1;
  if (is_stop_token(s.sampling, token)) return end(s, FinishReason::kStop, time);
  if (s.event.output_tokens >= s.sampling.max_tokens) return end(s, FinishReason::kLength, time);
  s.event.time = time;
  undelivered_.push_back(&s);
}

void Engine::deliver() {
  for (Sequence* s : undelivered_) s->on_output(s->event);
  undelivered_.clear();
  ended_.clear();
}

void Engine::end(Sequence& s, FinishReason reason, TimePoint time) {
  CHECK(!s.ended(), "sequence {} ended twice", s.id.value);
  s.event.finish = reason;
  s.event.time = time;
  switch (reason) {
    case FinishReason::kStop: counters_.finished_stop += 1; break;
    case FinishReason::kLength: counters_.finished_length += 1; break;
    case FinishReason::kCancelled: counters_.finished_cancelled += 1; break;
    case FinishReason::kError: counters_.finished_error += 1; break;
    case FinishReason::kNone: CHECK(false, "a sequence cannot end without a reason");
  }
  undelivered_.push_back(&s);
}

void Engine::end_and_keep(SequenceList sequences, FinishReason reason, const std::optional<Error>& error) {
  const TimePoint time = now();
  for (Sequence& s : sequences) {
    s.event.token = -1;
    s.event.error = error;
    end(s, reason, time);
  }
  ended_.splice(ended_.end(), sequences);
}

void Engine::add(SequenceList sequence) {
  counters_.prompt_tokens += sequence.front().prompt_tokens;
  scheduler_->add(std::move(sequence));
}

void Engine::cancel(SeqId id) { end_and_keep(scheduler_->take(id), FinishReason::kCancelled, std::nullopt); }

void Engine::end_all(FinishReason reason, const std::optional<Error>& error) {
  end_and_keep(scheduler_->take_all(), reason, error);
}

Result<EngineDescription> Engine::describe(const EngineConfig& requested) const {
  EngineDescription description;
  description.model = engine_model_info(*model_);
  description.requested = requested;
  CRIBLE_TRY(description.resolved,
             resolve(requested, this_machine(), {.context_length = model_->info().context_length}));
  const EngineConfig& config = description.resolved.config;
  CRIBLE_TRY(description.plan, plan_memory(config, memory_needs(*model_, config)));
  return description;
}

Status Engine::allocate(const EngineDescription& description, Buffer former) {
  const EngineConfig& config = description.resolved.config;
  CRIBLE_TRY(workspace_, Workspace::allocate(*model_, config, description.plan, stream_, std::move(former)));
  undelivered_.reserve(static_cast<size_t>(config.max_num_seqs));
  scheduler_ = std::make_unique<Scheduler>(SchedulerLimits{.max_num_seqs = config.max_num_seqs,
                                                           .max_num_batched_tokens = config.max_num_batched_tokens,
                                                           .block_size = config.block_size,
                                                           .num_blocks = description.plan.num_blocks,
                                                           .chunked_prefill = config.enable_chunked_prefill,
                                                           .prefix_caching = config.enable_prefix_caching});
  return {};
}

// One token through the whole model, in a scheduler of its own so that no trace of it stays.
Status Engine::prove_forward() {
  EngineRequest request{.prompt = {0}, .sampling = {.temperature = 0, .max_tokens = 1}};
  Scheduler scheduler({.num_blocks = 1, .prefix_caching = false});
  scheduler.add(make_sequence(SeqId{0}, std::move(request), 0, description_.resolved.config.block_size));
  forward(scheduler.plan());
  if (workspace_->tokens()[0] < 0) {
    return fail(ErrorCode::kCorrupt, "{}: a forward pass of one token gives logits that are not finite; the file's "
                "weights are damaged", model_->info().path);
  }
  return {};
}

Status Engine::reconfigure(const EngineConfig& requested) {
  const TimePoint start = now();
  CRIBLE_RETURN_IF_ERROR(check_live_change(description_.requested, requested));
  CRIBLE_TRY(EngineDescription description, describe(requested));

  SequenceList sequences = scheduler_->take_all();
  retire_scheduler_counters();
  const Status changed = allocate(description, workspace_->release_memory());
  if (changed) {
    description_ = std::move(description);
    counters_.reconfigurations += 1;
  } else if (const Status restored = allocate(description_, Buffer()); !restored) {
    end_and_keep(std::move(sequences), FinishReason::kError, restored.error());
    return fail(ErrorCode::kInternal, "{}; and the former configuration cannot be restored: {}",
                changed.error().message, restored.error().message);
  }
  requeue(std::move(sequences));
  counters_.last_reconfigure_seconds = to_seconds(now() - start);
  return changed;
}

// A sequence that the new context no longer holds ends here: by length if it has output, else in error.
void Engine::requeue(SequenceList sequences) {
  const int64_t limit = description_.resolved.config.max_model_len;
  while (!sequences.empty()) {
    SequenceList one;
    one.splice(one.begin(), sequences, sequences.begin());
    Sequence& s = one.front();
    s.sampling.max_tokens = std::min(s.sampling.max_tokens, limit - s.prompt_tokens);
    if (s.event.output_tokens < s.sampling.max_tokens) {
      scheduler_->add(std::move(one));
    } else if (s.event.output_tokens > 0) {
      end_and_keep(std::move(one), FinishReason::kLength, std::nullopt);
    } else {
      const Error error{ErrorCode::kInvalidArgument,
                        fmt::format("the prompt has {} tokens but max-model-len was changed to {} while it waited",
                                    s.prompt_tokens, limit)};
      end_and_keep(std::move(one), FinishReason::kError, error);
    }
  }
}

void Engine::retire_scheduler_counters() {
  counters_.prefix_queries_tokens += scheduler_->allocator().queried_tokens();
  counters_.prefix_hit_tokens += scheduler_->allocator().hit_tokens();
  counters_.computed_prompt_tokens += scheduler_->computed_prompt_tokens();
  counters_.preemptions += scheduler_->preemptions();
}

EngineStats Engine::stats() const {
  EngineStats stats = counters_;
  const KvAllocator& allocator = scheduler_->allocator();
  stats.running = static_cast<int64_t>(scheduler_->running().size());
  stats.waiting = static_cast<int64_t>(scheduler_->waiting().size());
  stats.kv_blocks_used = allocator.pool().used();
  stats.kv_blocks_total = allocator.pool().num_blocks();
  stats.prefix_queries_tokens += allocator.queried_tokens();
  stats.prefix_hit_tokens += allocator.hit_tokens();
  stats.computed_prompt_tokens += scheduler_->computed_prompt_tokens();
  stats.preemptions += scheduler_->preemptions();
  return stats;
}

}  // namespace crible
