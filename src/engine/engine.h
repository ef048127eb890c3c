// The engine itself, without a thread of its own: sequences go in, step() advances them by one forward
// pass, deliver() hands out what came of it. CONTRACT.md states what holds. Used by one thread at a
// time; the service (engine_thread.h) is what other threads talk to.
#pragma once

#include <memory>

#include "engine/engine_service.h"
#include "engine/prefix_cache_file.h"
#include "engine/scheduler.h"
#include "engine/workspace.h"

namespace crible {

class Engine {
 public:
  // Resolves, plans, allocates and runs one forward pass: after that the engine is ready.
  static Result<std::unique_ptr<Engine>> create(std::unique_ptr<const Model> model, Stream stream,
                                                const EngineConfig& requested);

  // An admitted sequence (admission.h), made for this engine's block size. Ids ascend.
  void add(SequenceList sequence);
  void cancel(SeqId id);
  // Ends every sequence with this reason.
  void end_all(FinishReason reason, const std::optional<Error>& error);
  void reset_prefix_cache() { scheduler_->clear_prefixes(); }

  bool has_work() const { return !scheduler_->empty(); }
  void step();
  // Calls on_output for every event since the last call: at most one per sequence. Apart from step(), so
  // that the figures a client reads after an event already include it.
  void deliver();

  // On error the old configuration goes on and no sequence is touched, unless the error's code is
  // kInternal: then the old configuration could not be restored either and the engine is lost.
  Status reconfigure(const EngineConfig& requested);

  // To prefix-cache-file, if there is one and prefix caching is on.
  Result<PrefixCacheSummary> save_prefix_cache() const;

  const EngineDescription& description() const { return description_; }
  EngineStats stats() const;
  uint64_t seed() const { return static_cast<uint64_t>(description_.resolved.config.seed); }

 private:
  Engine(std::unique_ptr<const Model> model, Stream stream) : model_(std::move(model)), stream_(std::move(stream)) {}

  Result<EngineDescription> describe(const EngineConfig& requested) const;
  Status allocate(const EngineDescription& description, Buffer former);
  Status prove_forward();
  EngineConfig read_back() const;
  PrefixCacheScope prefix_cache_scope() const;
  Status restore_prefix_cache();
  void forward(const StepPlan& plan);
  void commit(const StepPlan& plan);
  bool commit_scores(Sequence& sequence, int64_t first_row, int64_t rows, TimePoint time);
  void commit_token(Sequence& sequence, int64_t row, TimePoint time);
  void end_on_fault(Sequence& sequence, const std::string& place, TimePoint time);
  void end(Sequence& sequence, FinishReason reason, TimePoint time);
  void end_and_keep(SequenceList sequences, FinishReason reason, const std::optional<Error>& error);
  void requeue(SequenceList sequences);
  void retire_scheduler_counters();

  std::unique_ptr<const Model> model_;
  Stream stream_;
  BlockHash weights_;  // their fingerprint, if there is a prefix-cache-file
  EngineDescription description_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<Scheduler> scheduler_;
  EngineStats counters_;  // without what the present scheduler counts
  std::vector<Sequence*> undelivered_;  // whose event is set
  SequenceList ended_;                  // kept until their last event is delivered
};

}  // namespace crible
