// Decides what each step computes: which sequences, how many tokens of each (CONTRACT.md, "What a
// step computes"). First come, first served, or by priority; pre-emption by recomputation, last in that
// order first. Owns the sequences and, through the allocator, the block tables. No call allocates
// memory except add(). Engine thread only.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kv_allocator.h"
#include "engine/sequence.h"

namespace crible {

enum class SchedulingPolicy {
  kFcfs,      // order of arrival
  kPriority,  // lower EngineRequest::priority first, then order of arrival
};

struct SchedulerLimits {
  int64_t max_num_seqs = 1;
  int64_t max_num_batched_tokens = 1;
  int64_t block_size = 16;
  int64_t num_blocks = 1;
  bool chunked_prefill = true;
  bool prefix_caching = true;
  int64_t max_scoring_rows = 64;  // rows of logits for the log-probabilities of prompts, per step
  SchedulingPolicy policy = SchedulingPolicy::kFcfs;
  int64_t long_prefill_tokens = 0;  // a prompt with more to compute is long; 0 = none is
  int64_t max_long_prefills = 1;    // long prompts under way at once
};

struct ScheduledSequence {
  Sequence* sequence;
  int64_t num_tokens;  // the next tokens after computed_tokens
  bool samples;        // these are its last tokens: the logits of the final one give the next token
};

struct StepPlan {
  std::vector<ScheduledSequence> entries;
  std::vector<BlockCopy> copies;  // to be made before the tokens are computed
  int64_t num_tokens = 0;
  int64_t num_samples = 0;
  int64_t num_scoring_rows = 0;  // rows of logits that score prompts
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  // Each behind those that go before it.
  void add(SequenceList sequences);
  // Starts waiting sequences, chooses the step's tokens, pre-empts where blocks run out. The plan is
  // valid until the next call of any other method. Empty only if there is no sequence.
  const StepPlan& plan();
  // Whether plan() may be called while the last step is under way: nobody will be pre-empted.
  bool can_plan_ahead() const;
  // The plan is under way: its tokens count as computed.
  void advance(const StepPlan& plan);
  // A step has run that computed the sequence up to `tokens`: the blocks they fill can be shared.
  void share_computed(Sequence& sequence, int64_t tokens) { allocator_.index_full_blocks(sequence, tokens); }
  // Releases the running sequences whose last event is set, and hands them over.
  SequenceList take_ended();
  // Takes one sequence out, running or waiting; an empty list if it is unknown.
  SequenceList take(SeqId id);
  // Takes all sequences out, with nothing computed and no blocks.
  SequenceList take_all();
  void clear_prefixes() { allocator_.clear_prefixes(); }
  // The sequence's keys and values must not be shared any more.
  void forget_content(Sequence& sequence) { allocator_.forget_content(sequence); }

  const SequenceList& running() const { return running_; }
  // Without the long prompts that were passed.
  const SequenceList& waiting() const { return waiting_; }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size() + passed_.size()); }
  bool empty() const { return running_.empty() && num_waiting() == 0; }
  const SchedulerLimits& limits() const { return limits_; }
  KvAllocator& allocator() { return allocator_; }
  const KvAllocator& allocator() const { return allocator_; }
  int64_t preemptions() const { return preemptions_; }
  int64_t computed_prompt_tokens() const { return computed_prompt_tokens_; }

 private:
  struct Candidate {
    SequenceList* queue;
    SequenceList::iterator place;
    bool exists() const { return place != queue->end(); }
  };

  bool before(const Sequence& a, const Sequence& b) const;
  int64_t budget_left() const { return limits_.max_num_batched_tokens - plan_.num_tokens; }
  bool may_start() const { return budget_left() > 0 && num_running() < limits_.max_num_seqs; }
  bool may_start_long() const { return long_under_way_ < limits_.max_long_prefills; }
  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  // The running sequence that this one is a fork of; none if it has computed something of its own already.
  const Sequence* fork_source(const Sequence& sequence) const;
  void schedule(Sequence& sequence);
  void plan_decodes();
  void plan_prompts();
  void plan_whole_prompts();
  void count_long_prompts();
  Candidate next_candidate();
  bool start(const Candidate& candidate);
  StartResult allocate_for(Sequence& sequence);
  void make_room();
  void preempt_last();

  SchedulerLimits limits_;
  KvAllocator allocator_;
  // Each list in the order of before(). What runs may come after what waits: a sequence that can start
  // passes long prompts and forks that cannot yet.
  SequenceList running_;
  SequenceList waiting_;
  SequenceList passed_;  // long prompts that wait for another to be done
  SequenceList::iterator next_waiting_;  // while a step is planned: the first that was not looked at
  int64_t long_under_way_ = 0;           // while a step is planned
  StepPlan plan_;
  int64_t preemptions_ = 0;
  int64_t computed_prompt_tokens_ = 0;
};

}  // namespace crible
