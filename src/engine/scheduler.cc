#include "engine/scheduler.h"

#include <algorithm>
#include <iterator>

namespace crible {

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(limits), allocator_(limits.num_blocks, limits.block_size, limits.prefix_caching) {
  plan_.entries.reserve(static_cast<size_t>(limits.max_num_seqs));
}

void Scheduler::add(SequenceList sequences) { waiting_.splice(waiting_.end(), sequences); }

const StepPlan& Scheduler::plan() {
  plan_.entries.clear();
  plan_.num_tokens = 0;
  plan_.num_samples = 0;
  if (limits_.chunked_prefill) {
    plan_decodes();
    continue_prompts();
    start_waiting();
  } else {
    start_waiting();
    if (plan_.entries.empty()) plan_decodes();
  }
  return plan_;
}

// Older sequences take their block before newer ones, and whoever is pre-empted is newer than
// whoever is already in the plan: a planned sequence never loses its blocks.
void Scheduler::plan_decodes() {
  for (auto it = running_.begin(); it != running_.end(); ++it) {
    if (it->uncomputed_tokens() != 1) continue;
    while (!allocator_.extend(*it)) {
      const bool itself = std::next(it) == running_.end();
      preempt_newest();
      if (itself) return;
    }
    schedule(*it, 1);
  }
}

void Scheduler::continue_prompts() {
  for (Sequence& sequence : running_) {
    if (budget_left() == 0) return;
    const int64_t left = sequence.uncomputed_tokens();
    if (left > 1) schedule(sequence, std::min(left, budget_left()));
  }
}

void Scheduler::start_waiting() {
  while (!waiting_.empty() && budget_left() > 0 &&
         static_cast<int64_t>(running_.size()) < limits_.max_num_seqs) {
    Sequence& sequence = waiting_.front();
    // One block to spare for each running sequence: else the next decodes would pre-empt the new
    // sequence at once and its prompt be computed for nothing.
    const auto headroom = static_cast<int64_t>(running_.size());
    const int64_t budget = limits_.chunked_prefill ? sequence.num_tokens() : budget_left();
    if (!allocator_.start(sequence, headroom, budget)) return;
    running_.splice(running_.end(), waiting_, waiting_.begin());
    schedule(sequence, std::min(sequence.uncomputed_tokens(), budget_left()));
  }
}

void Scheduler::schedule(Sequence& sequence, int64_t num_tokens) {
  const bool samples = num_tokens == sequence.uncomputed_tokens();
  plan_.entries.push_back({&sequence, num_tokens, samples});
  plan_.num_tokens += num_tokens;
  plan_.num_samples += samples ? 1 : 0;
}

void Scheduler::preempt_newest() {
  const auto newest = std::prev(running_.end());
  allocator_.release(*newest);
  newest->event.preemptions += 1;
  preemptions_ += 1;
  waiting_.splice(waiting_.begin(), running_, newest);
}

void Scheduler::advance(const StepPlan& plan) {
  for (const ScheduledSequence& entry : plan.entries) {
    Sequence& sequence = *entry.sequence;
    computed_prompt_tokens_ +=
        std::clamp<int64_t>(sequence.prompt_tokens - sequence.computed_tokens, 0, entry.num_tokens);
    sequence.computed_tokens += entry.num_tokens;
    allocator_.index_full_blocks(sequence);
  }
}

SequenceList Scheduler::take_ended() {
  SequenceList ended;
  for (auto it = running_.begin(); it != running_.end();) {
    const auto current = it++;
    if (!current->ended()) continue;
    allocator_.release(*current);
    ended.splice(ended.end(), running_, current);
  }
  return ended;
}

SequenceList Scheduler::take(SeqId id) {
  SequenceList taken;
  for (SequenceList* queue : {&running_, &waiting_}) {
    const auto it = std::find_if(queue->begin(), queue->end(), [id](const Sequence& s) { return s.id == id; });
    if (it == queue->end()) continue;
    allocator_.release(*it);
    taken.splice(taken.end(), *queue, it);
    return taken;
  }
  return taken;
}

SequenceList Scheduler::take_all() {
  SequenceList all;
  for (Sequence& sequence : running_) allocator_.release(sequence);
  all.splice(all.end(), running_);
  all.splice(all.end(), waiting_);
  return all;
}

}  // namespace crible
