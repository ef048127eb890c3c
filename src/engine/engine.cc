#include "engine/engine.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "engine/admission.h"
#include "engine/cpu_runner.h"
#include "engine/model_fingerprint.h"

namespace crible {
namespace {

SchedulerLimits scheduler_limits(const EngineConfig& config, const MemoryPlan& plan) {
  return {.max_num_seqs = config.max_num_seqs,
          .max_num_batched_tokens = config.max_num_batched_tokens,
          .block_size = config.block_size,
          .num_blocks = plan.num_blocks,
          .chunked_prefill = config.enable_chunked_prefill,
          .prefix_caching = config.enable_prefix_caching,
          .max_scoring_rows = max_scoring_rows(config),
          .policy = config.scheduling_policy == "priority" ? SchedulingPolicy::kPriority : SchedulingPolicy::kFcfs,
          .long_prefill_tokens = config.long_prefill_token_threshold,
          .max_long_prefills = config.max_long_partial_prefills};
}

bool is_stop_token(const SamplingParams& sampling, TokenId token) {
  return !sampling.ignore_eos && std::find(sampling.stop_token_ids.begin(), sampling.stop_token_ids.end(), token) !=
                                     sampling.stop_token_ids.end();
}

}  // namespace

Result<std::unique_ptr<Engine>> Engine::create(std::unique_ptr<const Model> model, Stream stream,
                                               const EngineConfig& requested) {
  return create(std::make_unique<CpuRunner>(std::move(model), std::move(stream)), requested);
}

Result<std::unique_ptr<Engine>> Engine::create(std::unique_ptr<StepRunner> runner, const EngineConfig& requested) {
  std::unique_ptr<Engine> engine(new Engine(std::move(runner)));
  CRIBLE_TRY(EngineDescription description, engine->describe(requested));
  CRIBLE_RETURN_IF_ERROR(engine->allocate(description));
  engine->description_ = std::move(description);
  engine->description_.effective = engine->read_back();
  CRIBLE_RETURN_IF_ERROR(engine->prove_forward());
  CRIBLE_RETURN_IF_ERROR(engine->restore_prefix_cache());
  return engine;
}

// With a step under way the next is launched first, unless its plan depends on results: then this call only
// finishes it. A call so delivers at most one event of each sequence.
Status Engine::step() {
  const TimePoint start = now();
  int64_t tokens = 0;
  const std::optional<size_t> before = std::exchange(under_way_, std::nullopt);
  if (!before || (!steps_[*before].needs_results && scheduler_->can_plan_ahead())) {
    const StepPlan& plan = scheduler_->plan();
    tokens = plan.num_tokens;
    if (!plan.entries.empty()) {
      under_way_ = before ? 1 - *before : 0;
      if (const Status launched = launch(plan, steps_[*under_way_]); !launched) return lose(launched.error());
      counters_.steps_ahead += before.has_value();
    }
  }
  std::optional<size_t> finished = before;
  if (!before && !runner_->runs_ahead()) finished = std::exchange(under_way_, std::nullopt);
  if (finished) {
    if (const Status done = finish(steps_[*finished]); !done) return lose(done.error());
  }
  counters_.count_step(tokens, to_seconds(now() - start));
  return {};
}

std::span<const ScheduledSequence> Engine::in_launch_order(const StepPlan& plan) {
  launch_order_.clear();
  for (const ScheduledSequence& entry : plan.entries) {
    if (entry.num_tokens == 1) launch_order_.push_back(entry);
  }
  for (const ScheduledSequence& entry : plan.entries) {
    if (entry.num_tokens != 1) launch_order_.push_back(entry);
  }
  return launch_order_;
}

Status Engine::launch(const StepPlan& plan, LaunchedStep& step) {
  const auto entries = in_launch_order(plan);
  CRIBLE_RETURN_IF_ERROR(runner_->launch(entries, plan.copies));
  step.entries.clear();
  step.needs_results = false;
  int64_t row = 0;
  for (const ScheduledSequence& entry : entries) {
    Sequence& s = *entry.sequence;
    const int64_t scored = scoring_rows(s, s.computed_tokens, entry.num_tokens);
    step.entries.push_back({.sequence = &s,
                            .end = s.computed_tokens + entry.num_tokens,
                            .first_row = row,
                            .scored = scored,
                            .drawn_token = entry.samples ? s.num_tokens() : -1});
    step.needs_results |= scored > 0;
    step.needs_results |= entry.samples && s.sampling_state != nullptr &&
                          s.sampling_state->needs_last_token(runner_->keeps_histories());
    row += scored;
    s.steps_under_way += 1;
    if (!entry.samples) continue;
    s.tokens.push_back(token_of_row(row++));
    s.undrawn_tokens += 1;
  }
  scheduler_->advance(plan);
  return {};
}

Status Engine::finish(LaunchedStep& step) {
  const TimePoint waiting = now();
  CRIBLE_TRY(const StepOutput output, runner_->collect());
  const TimePoint time = now();
  counters_.device_wait_seconds += to_seconds(time - waiting);
  for (const LaunchedEntry& entry : step.entries) {
    entry.sequence->steps_under_way -= 1;
    // It may have ended since: by its last token, or cancelled.
    if (!entry.sequence->ended()) commit(entry, output, time);
  }
  ended_.splice(ended_.end(), scheduler_->take_ended());
  return {};
}

Status Engine::drain() {
  if (!under_way_) return {};
  if (const Status done = finish(steps_[*std::exchange(under_way_, std::nullopt)]); !done) return lose(done.error());
  return {};
}

Status Engine::lose(const Error& error) {
  under_way_.reset();
  end_all(FinishReason::kError, error);
  for (Sequence& s : ended_) s.steps_under_way = 0;
  return tl::unexpected<Error>(error);
}

void Engine::commit(const LaunchedEntry& entry, const StepOutput& output, TimePoint time) {
  scheduler_->share_computed(*entry.sequence, entry.end);
  if (commit_scores(entry, output, time) && entry.drawn_token >= 0) commit_token(entry, output, time);
}

// False if the sequence has ended.
bool Engine::commit_scores(const LaunchedEntry& entry, const StepOutput& output, TimePoint time) {
  Sequence& s = *entry.sequence;
  for (int64_t row = entry.first_row; row < entry.first_row + entry.scored; ++row) {
    if (output.tokens[static_cast<size_t>(row)] < 0) {
      end_on_fault(s, fmt::format("prompt token {}", s.sampling_state->first_unscored() + 1), time);
      return false;
    }
    s.sampling_state->score(output.logprobs_of(row));
  }
  return true;
}

void Engine::commit_token(const LaunchedEntry& entry, const StepOutput& output, TimePoint time) {
  Sequence& s = *entry.sequence;
  const int64_t row = entry.first_row + entry.scored;
  const TokenId token = output.tokens[static_cast<size_t>(row)];
  if (token < 0) return end_on_fault(s, fmt::format("output token {}", s.event.output_tokens + 1), time);
  s.tokens[static_cast<size_t>(entry.drawn_token)] = token;
  s.undrawn_tokens -= 1;
  s.event.token = token;
  s.event.output_tokens += 1;
  counters_.generation_tokens += 1;
  if (SequenceSampling* state = s.sampling_state.get()) {
    state->append(token, output.logprobs_of(row));
    s.event.logprobs = state->logprobs();
    s.event.prompt_logprobs = s.event.output_tokens == 1 ? state->prompt_logprobs() : std::span<const TokenLogprob>();
  }
  if (is_stop_token(s.sampling, token)) return end(s, FinishReason::kStop, time);
  if (s.event.output_tokens >= s.sampling.max_tokens) return end(s, FinishReason::kLength, time);
  s.event.time = time;
  undelivered_.push_back(&s);
}

void Engine::end_on_fault(Sequence& s, const std::string& place, TimePoint time) {
  // The fault may lie in the sequence's cached content, which others would inherit.
  scheduler_->forget_content(s);
  s.event.token = -1;
  s.event.logprobs = {};
  s.event.prompt_logprobs = {};
  s.event.error = Error{ErrorCode::kInternal, fmt::format("the model's logits for {} are not finite", place)};
  end(s, FinishReason::kError, time);
}

void Engine::deliver() {
  for (Sequence* s : undelivered_) s->on_output(s->event);
  undelivered_.clear();
  ended_.remove_if([](const Sequence& s) { return s.steps_under_way == 0; });
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
    s.event.logprobs = {};
    s.event.prompt_logprobs = {};
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
  description.model = runner_->model();
  description.requested = requested;
  CRIBLE_TRY(description.resolved,
             resolve(requested, runner_->machine(), {.context_length = description.model.context_length}));
  CRIBLE_TRY(description.plan, settle_memory(requested, description.resolved, [this](const EngineConfig& config) {
    return runner_->memory_needs(config);
  }));
  return description;
}

Status Engine::allocate(const EngineDescription& description) {
  const EngineConfig& config = description.resolved.config;
  CRIBLE_RETURN_IF_ERROR(runner_->allocate(config, description.plan));
  const auto sequences = static_cast<size_t>(config.max_num_seqs);
  undelivered_.reserve(sequences);
  launch_order_.reserve(sequences);
  for (LaunchedStep& step : steps_) step.entries.reserve(sequences);
  scheduler_ = std::make_unique<Scheduler>(scheduler_limits(config, description.plan));
  return {};
}

// Of a setting that nothing holds but the description, that; of all others, what runs.
EngineConfig Engine::read_back() const {
  EngineConfig effective = description_.resolved.config;
  const SchedulerLimits& limits = scheduler_->limits();
  const KvAllocator& allocator = scheduler_->allocator();
  effective.max_num_seqs = limits.max_num_seqs;
  effective.max_num_batched_tokens = limits.max_num_batched_tokens;
  effective.enable_chunked_prefill = limits.chunked_prefill;
  effective.scheduling_policy = limits.policy == SchedulingPolicy::kPriority ? "priority" : "fcfs";
  effective.long_prefill_token_threshold = limits.long_prefill_tokens;
  effective.max_long_partial_prefills = limits.max_long_prefills;
  effective.enable_prefix_caching = allocator.prefix_caching();
  effective.block_size = allocator.block_size();
  runner_->read_back(effective);
  return effective;
}

PrefixCacheScope Engine::prefix_cache_scope() const {
  const EngineConfig& config = description_.resolved.config;
  return {.path = config.prefix_cache_file,
          .identity = prefix_cache_identity(weights_, *runner_, config, description_.plan),
          .block_bytes = description_.plan.kv_block_bytes * config.tensor_parallel_size};
}

// A file that is of no use leaves the cache cold; only a model that cannot be told apart is an error.
Status Engine::restore_prefix_cache() {
  const EngineConfig& config = description_.resolved.config;
  if (config.prefix_cache_file.empty()) return {};
  CRIBLE_TRY(weights_, model_fingerprint(runner_->model().path));
  if (!config.enable_prefix_caching) {
    log_warning("{} is neither read nor written while prefix caching is off", config.prefix_cache_file);
    return {};
  }
  const auto restored = crible::restore_prefix_cache(prefix_cache_scope(), scheduler_->allocator(), *runner_);
  if (!restored) {
    if (restored.error().code == ErrorCode::kNotFound) {
      log_info("the prefix cache begins empty: {}", restored.error().message);
    } else {
      log_warning("the prefix cache begins empty: {}", restored.error().message);
    }
    return {};
  }
  counters_.restored_prefix_blocks = restored->blocks;
  log_info("prefix cache: {} blocks, {}, from {} in {:.2f} s", restored->blocks, format_bytes(restored->bytes),
           config.prefix_cache_file, restored->seconds);
  if (restored->damaged_blocks > 0) {
    log_warning("{} blocks of {} were damaged and are left out", restored->damaged_blocks, config.prefix_cache_file);
  }
  return {};
}

Result<PrefixCacheSummary> Engine::save_prefix_cache() {
  const EngineConfig& config = description_.resolved.config;
  if (config.prefix_cache_file.empty()) {
    return fail(ErrorCode::kInvalidArgument, "there is no file to write to; start with --prefix-cache-file PATH");
  }
  if (!config.enable_prefix_caching) {
    return fail(ErrorCode::kInvalidArgument, "prefix caching is off: there is nothing to keep");
  }
  CHECK(!under_way_, "a step is under way while its blocks are saved");
  return crible::save_prefix_cache(prefix_cache_scope(), scheduler_->allocator(), *runner_);
}

// One token through the whole model, in a scheduler of its own so that no trace of it stays.
Status Engine::prove_forward() {
  EngineRequest request{.prompt = {0}, .sampling = {.temperature = 0, .max_tokens = 1}};
  Scheduler scheduler({.num_blocks = 1, .prefix_caching = false});
  scheduler.add(make_sequences(SeqId{0}, std::move(request), 0, description_.resolved.config.block_size));
  CRIBLE_RETURN_IF_ERROR(runner_->launch(scheduler.plan().entries, {}));
  CRIBLE_TRY(const StepOutput output, runner_->collect());
  if (output.tokens[0] < 0) {
    return fail(ErrorCode::kCorrupt, "{}: a forward pass of one token gives logits that are not finite; the file's "
                "weights are damaged", runner_->model().path);
  }
  return {};
}

Status Engine::reconfigure(const EngineConfig& requested) {
  const TimePoint start = now();
  CRIBLE_RETURN_IF_ERROR(check_live_change(description_.requested, requested));
  CRIBLE_TRY(EngineDescription description, describe(requested));

  CHECK(!under_way_, "a step is under way while the configuration changes");
  SequenceList sequences = scheduler_->take_all();
  retire_scheduler_counters();
  const Status changed = allocate(description);
  if (changed) {
    description_ = std::move(description);
    description_.effective = read_back();
    counters_.reconfigurations += 1;
  } else if (const Status restored = allocate(description_); !restored) {
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
  stats.waiting = scheduler_->num_waiting();
  stats.kv_blocks_used = allocator.pool().used();
  stats.kv_blocks_total = allocator.pool().num_blocks();
  stats.prefix_queries_tokens += allocator.queried_tokens();
  stats.prefix_hit_tokens += allocator.hit_tokens();
  stats.computed_prompt_tokens += scheduler_->computed_prompt_tokens();
  stats.preemptions += scheduler_->preemptions();
  return stats;
}

}  // namespace crible
