// Decides what each step computes: which sequences, how many tokens of each (CONTRACT.md, "What a
// step computes"). First come, first served; pre-emption by recomputation, newest first. Owns the
// sequences and, through the allocator, the block tables. No call allocates memory except add().
// Engine thread only.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/kv_allocator.h"
#include "engine/sequence.h"

namespace crible {

struct SchedulerLimits {
  int64_t max_num_seqs = 1;
  int64_t max_num_batched_tokens = 1;
  int64_t block_size = 16;
  int64_t num_blocks = 1;
  bool chunked_prefill = true;
  bool prefix_caching = true;
};

struct ScheduledSequence {
  Sequence* sequence;
  int64_t num_tokens;  // the next tokens after computed_tokens
  bool samples;        // these are its last tokens: the logits of the final one give the next token
};

struct StepPlan {
  std::vector<ScheduledSequence> entries;
  int64_t num_tokens = 0;
  int64_t num_samples = 0;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits);

  // Behind all others. Ids must arrive in ascending order.
  void add(SequenceList sequences);
  // Starts waiting sequences, chooses the step's tokens, pre-empts where blocks run out. The plan is
  // valid until the next call of any other method. Empty only if there is no sequence.
  const StepPlan& plan();
  // The plan has run: its tokens are computed and its full blocks can be shared.
  void advance(const StepPlan& plan);
  // Releases the running sequences whose last event is set, and hands them over.
  SequenceList take_ended();
  // Takes one sequence out, running or waiting; an empty list if it is unknown.
  SequenceList take(SeqId id);
  // Takes all sequences out, in order of arrival, with nothing computed and no blocks.
  SequenceList take_all();
  void clear_prefixes() { allocator_.clear_prefixes(); }
  // The sequence's keys and values must not be shared any more.
  void forget_content(Sequence& sequence) { allocator_.forget_content(sequence); }

  const SequenceList& running() const { return running_; }
  const SequenceList& waiting() const { return waiting_; }
  bool empty() const { return running_.empty() && waiting_.empty(); }
  const KvAllocator& allocator() const { return allocator_; }
  int64_t preemptions() const { return preemptions_; }
  int64_t computed_prompt_tokens() const { return computed_prompt_tokens_; }

 private:
  int64_t budget_left() const { return limits_.max_num_batched_tokens - plan_.num_tokens; }
  void schedule(Sequence& sequence, int64_t num_tokens);
  void plan_decodes();
  void continue_prompts();
  void start_waiting();
  void preempt_newest();

  SchedulerLimits limits_;
  KvAllocator allocator_;
  // Every running sequence arrived before every waiting one.
  SequenceList running_;
  SequenceList waiting_;
  StepPlan plan_;
  int64_t preemptions_ = 0;
  int64_t computed_prompt_tokens_ = 0;
};

}  // namespace crible
