// The engine itself, without a thread of its own: sequences go in, step() advances them by one forward
// pass, deliver() hands out what came of it. With a runner that runs ahead, step() launches the next step before it
// waits for the last one. CONTRACT.md states what holds. Used by one thread at a
// time; the service (engine_thread.h) is what other threads talk to.
#pragma once

#include <memory>
#include <vector>

#include "engine/engine_service.h"
#include "engine/prefix_cache_file.h"
#include "engine/scheduler.h"
#include "engine/step_runner.h"

namespace crible {

class Engine {
 public:
  // Resolves, plans, allocates and runs one forward pass: after that the engine is ready.
  static Result<std::unique_ptr<Engine>> create(std::unique_ptr<StepRunner> runner, const EngineConfig& requested);
  // On the CPU.
  static Result<std::unique_ptr<Engine>> create(std::unique_ptr<const Model> model, Stream stream,
                                                const EngineConfig& requested);

  // An admitted sequence (admission.h), made for this engine's block size. Ids ascend.
  void add(SequenceList sequence);
  void cancel(SeqId id);
  // Ends every sequence with this reason.
  void end_all(FinishReason reason, const std::optional<Error>& error);
  void reset_prefix_cache() { scheduler_->clear_prefixes(); }

  bool has_work() const { return !scheduler_->empty() || under_way_.has_value(); }
  // An error means that the device has failed for good: every sequence has ended with it, and no other call than
  // deliver(), stats() and description() may follow.
  Status step();
  // Waits for the step under way, if there is one; deliver() has its events. Before reconfigure() and
  // save_prefix_cache(). Errors as of step().
  Status drain();
  // A piece of work that makes later steps faster, for when nobody waits; false if there is none.
  bool prepare() { return runner_->prepare(); }
  // Calls on_output for every event since the last call: at most one per sequence. Apart from step(), so
  // that the figures a client reads after an event already include it.
  void deliver();

  // On error the old configuration goes on and no sequence is touched, unless the error's code is
  // kInternal: then the old configuration could not be restored either and the engine is lost.
  // No step may be under way.
  Status reconfigure(const EngineConfig& requested);

  // To prefix-cache-file, if there is one and prefix caching is on.
  Result<PrefixCacheSummary> save_prefix_cache();

  const EngineDescription& description() const { return description_; }
  EngineStats stats() const;
  uint64_t seed() const { return static_cast<uint64_t>(description_.resolved.config.seed); }

 private:
  // An entry of a step that was launched.
  struct LaunchedEntry {
    Sequence* sequence;
    int64_t end;         // tokens that are computed behind it
    int64_t first_row;   // of its rows of logits
    int64_t scored;      // rows that score its prompt
    int64_t drawn_token; // index in the sequence's tokens; -1: the step draws none for it
  };
  struct LaunchedStep {
    std::vector<LaunchedEntry> entries;
    bool needs_results = false;  // the next step cannot be planned before they are known on the host
  };

  explicit Engine(std::unique_ptr<StepRunner> runner) : runner_(std::move(runner)) {}

  Result<EngineDescription> describe(const EngineConfig& requested) const;
  Status allocate(const EngineDescription& description);
  Status prove_forward();
  EngineConfig read_back() const;
  PrefixCacheScope prefix_cache_scope() const;
  Status restore_prefix_cache();
  // The plan's entries, those of one token first.
  std::span<const ScheduledSequence> in_launch_order(const StepPlan& plan);
  Status launch(const StepPlan& plan, LaunchedStep& step);
  Status finish(LaunchedStep& step);
  Status lose(const Error& error);
  void commit(const LaunchedEntry& entry, const StepOutput& output, TimePoint time);
  bool commit_scores(const LaunchedEntry& entry, const StepOutput& output, TimePoint time);
  void commit_token(const LaunchedEntry& entry, const StepOutput& output, TimePoint time);
  void end_on_fault(Sequence& sequence, const std::string& place, TimePoint time);
  void end(Sequence& sequence, FinishReason reason, TimePoint time);
  void end_and_keep(SequenceList sequences, FinishReason reason, const std::optional<Error>& error);
  void requeue(SequenceList sequences);
  void retire_scheduler_counters();

  std::unique_ptr<StepRunner> runner_;
  BlockHash weights_;  // their fingerprint, if there is a prefix-cache-file
  EngineDescription description_;
  std::unique_ptr<Scheduler> scheduler_;
  std::vector<ScheduledSequence> launch_order_;
  std::array<LaunchedStep, 2> steps_;  // used in turn
  std::optional<size_t> under_way_;    // which of them is launched and not finished, between calls of step()
  EngineStats counters_;  // without what the present scheduler counts
  std::vector<Sequence*> undelivered_;  // whose event is set
  SequenceList ended_;  // kept until their last event is delivered and no step under way has an entry of theirs
};

}  // namespace crible
