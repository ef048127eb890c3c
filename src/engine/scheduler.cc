#include "engine/scheduler.h"

#include <algorithm>
#include <iterator>

#include "base/check.h"

namespace crible {
namespace {

// Both searches end within a step or two where the lists are used: new arrivals belong to the end,
// pre-empted sequences to the beginning.
template <typename Before>
void splice_from_back(SequenceList& to, SequenceList& from, SequenceList::iterator sequence, Before before) {
  auto place = to.end();
  while (place != to.begin() && before(*sequence, *std::prev(place))) --place;
  to.splice(place, from, sequence);
}

template <typename Before>
void splice_from_front(SequenceList& to, SequenceList& from, SequenceList::iterator sequence, Before before) {
  auto place = to.begin();
  while (place != to.end() && before(*place, *sequence)) ++place;
  to.splice(place, from, sequence);
}

}  // namespace

Scheduler::Scheduler(const SchedulerLimits& limits)
    : limits_(limits),
      allocator_(limits.num_blocks, limits.block_size, limits.prefix_caching),
      next_waiting_(waiting_.end()) {
  plan_.entries.reserve(static_cast<size_t>(limits.max_num_seqs));
  plan_.copies.reserve(static_cast<size_t>(limits.max_num_seqs));
}

bool Scheduler::before(const Sequence& a, const Sequence& b) const {
  if (limits_.policy == SchedulingPolicy::kPriority && a.priority != b.priority) return a.priority < b.priority;
  return a.id < b.id;
}

void Scheduler::add(SequenceList sequences) {
  while (!sequences.empty()) {
    splice_from_back(waiting_, sequences, sequences.begin(),
                     [this](const auto& a, const auto& b) { return before(a, b); });
  }
}

const StepPlan& Scheduler::plan() {
  plan_.entries.clear();
  plan_.copies.clear();
  plan_.num_tokens = 0;
  plan_.num_samples = 0;
  plan_.num_scoring_rows = 0;
  count_long_prompts();
  make_room();
  if (limits_.chunked_prefill) {
    plan_decodes();
    plan_prompts();
  } else {
    plan_whole_prompts();
    if (plan_.entries.empty()) plan_decodes();
  }
  return plan_;
}

// Those that go first take their block first, and whoever is pre-empted comes after whoever is already
// in the plan: a planned sequence never loses its blocks.
void Scheduler::plan_decodes() {
  for (auto it = running_.begin(); it != running_.end(); ++it) {
    if (it->uncomputed_tokens() != 1 || it->complete()) continue;
    while (!allocator_.extend(*it)) {
      const bool itself = std::next(it) == running_.end();
      preempt_last();
      if (itself) return;
    }
    schedule(*it);
  }
}

// Prompts under way and waiting sequences, merged in order.
void Scheduler::plan_prompts() {
  next_waiting_ = waiting_.begin();
  auto under_way = running_.begin();
  bool starting = true;
  while (budget_left() > 0) {
    while (under_way != running_.end() && under_way->uncomputed_tokens() <= 1) ++under_way;
    const bool more_under_way = under_way != running_.end();
    if (starting && may_start()) {
      const Candidate candidate = next_candidate();
      if (candidate.exists() && (!more_under_way || before(*candidate.place, *under_way))) {
        starting = start(candidate);
        continue;
      }
    }
    if (!more_under_way) return;
    schedule(*under_way++);
  }
}

// Only a prompt whose tokens are scored is under way here: its rows of logits may take several steps.
void Scheduler::plan_whole_prompts() {
  for (Sequence& sequence : running_) {
    if (sequence.uncomputed_tokens() > 1 && budget_left() > 0) schedule(sequence);
  }
  next_waiting_ = waiting_.begin();
  while (may_start()) {
    const Candidate candidate = next_candidate();
    if (!candidate.exists() || !start(candidate)) return;
  }
}

void Scheduler::count_long_prompts() {
  long_under_way_ = 0;
  if (limits_.long_prefill_tokens == 0) return;
  long_under_way_ = std::count_if(running_.begin(), running_.end(), [](const Sequence& s) {
    return s.long_prompt && s.uncomputed_tokens() > 1;
  });
}

// A fork waits until it can begin behind the whole prompt; others pass it meanwhile.
Scheduler::Candidate Scheduler::next_candidate() {
  for (; next_waiting_ != waiting_.end(); ++next_waiting_) {
    const Sequence* source = fork_source(*next_waiting_);
    if (source == nullptr || source->computed_tokens >= source->prompt_tokens) break;
  }
  const bool passed_first = may_start_long() && !passed_.empty() &&
                            (next_waiting_ == waiting_.end() || before(passed_.front(), *next_waiting_));
  if (passed_first) return {&passed_, passed_.begin()};
  return {&waiting_, next_waiting_};
}

// False if nothing more can start in this step: what is short of blocks holds up those behind it.
bool Scheduler::start(const Candidate& candidate) {
  const auto in_order = [this](const auto& a, const auto& b) { return before(a, b); };
  Sequence& sequence = *candidate.place;
  if (candidate.queue == &waiting_) ++next_waiting_;
  switch (allocate_for(sequence)) {
    case StartResult::kStarted: break;
    case StartResult::kNoBlocks: return false;
    case StartResult::kTooManyTokens:
      if (!limits_.chunked_prefill) return false;
      // A fork stays where it is: once its source has run it is short.
      if (!sequence.fork_of) splice_from_back(passed_, *candidate.queue, candidate.place, in_order);
      return true;
  }
  sequence.long_prompt =
      limits_.long_prefill_tokens > 0 && sequence.uncomputed_tokens() > limits_.long_prefill_tokens;
  long_under_way_ += sequence.long_prompt ? 1 : 0;
  splice_from_back(running_, *candidate.queue, candidate.place, in_order);
  schedule(sequence);
  return true;
}

StartResult Scheduler::allocate_for(Sequence& sequence) {
  // One block to spare for each running sequence: else the next decodes would pre-empt the new
  // sequence at once and its prompt be computed for nothing.
  const int64_t headroom = num_running();
  if (const Sequence* source = fork_source(sequence)) {
    return allocator_.fork(*source, sequence, headroom, plan_.copies);
  }
  int64_t budget = sequence.num_tokens();
  if (!limits_.chunked_prefill) {
    budget = budget_left();
  } else if (limits_.long_prefill_tokens > 0 && !may_start_long()) {
    budget = limits_.long_prefill_tokens;
  }
  return allocator_.start(sequence, headroom, budget);
}

const Sequence* Scheduler::fork_source(const Sequence& sequence) const {
  if (!sequence.fork_of || sequence.num_tokens() > sequence.prompt_tokens) return nullptr;
  const auto source = std::find_if(running_.begin(), running_.end(),
                                   [&](const Sequence& s) { return s.id == *sequence.fork_of; });
  return source == running_.end() ? nullptr : &*source;
}

void Scheduler::schedule(Sequence& sequence) {
  const int64_t left = sequence.uncomputed_tokens();
  int64_t num_tokens = std::min(left, budget_left());
  if (sequence.long_prompt && limits_.chunked_prefill) num_tokens = std::min(num_tokens, limits_.long_prefill_tokens);
  num_tokens = std::min(num_tokens, tokens_within_rows(sequence, limits_.max_scoring_rows - plan_.num_scoring_rows));
  if (num_tokens == 0) return;
  const bool samples = num_tokens == left;
  plan_.num_scoring_rows += scoring_rows(sequence, sequence.computed_tokens, num_tokens);
  plan_.entries.push_back({&sequence, num_tokens, samples});
  plan_.num_tokens += num_tokens;
  plan_.num_samples += samples ? 1 : 0;
}

// Under priorities: the first waiting sequence takes the places of running ones of lower priority, last
// first, if that lets it start. Equal priorities leave each other alone, so nothing goes back and forth.
void Scheduler::make_room() {
  if (limits_.policy != SchedulingPolicy::kPriority || waiting_.empty() || running_.empty()) return;
  Sequence& first = waiting_.front();
  if (running_.back().priority <= first.priority || fork_source(first) != nullptr) return;
  if (first.num_tokens() > limits_.long_prefill_tokens && !may_start_long()) return;
  const int64_t needed = allocator_.blocks_to_start(first);
  int64_t running = num_running();
  int64_t available = allocator_.pool().available();
  int64_t victims = 0;
  for (auto it = running_.end(); running == limits_.max_num_seqs || needed + running > available;) {
    if (it == running_.begin() || std::prev(it)->priority <= first.priority) return;
    --it;
    available += allocator_.sole_blocks(*it);
    running -= 1;
    victims += 1;
  }
  for (; victims > 0; --victims) preempt_last();
}

// A decode takes one block at most, and who starts leaves one for each that runs.
bool Scheduler::can_plan_ahead() const {
  const bool may_displace = limits_.policy == SchedulingPolicy::kPriority && !waiting_.empty();
  return !may_displace && allocator_.pool().available() >= static_cast<int64_t>(running_.size());
}

void Scheduler::preempt_last() {
  const auto last = std::prev(running_.end());
  CHECK(last->undrawn_tokens == 0, "sequence {} is pre-empted while a step draws its token", last->id.value);
  allocator_.release(*last);
  last->event.preemptions += 1;
  preemptions_ += 1;
  splice_from_front(waiting_, running_, last, [this](const auto& a, const auto& b) { return before(a, b); });
}

void Scheduler::advance(const StepPlan& plan) {
  for (const ScheduledSequence& entry : plan.entries) {
    Sequence& sequence = *entry.sequence;
    computed_prompt_tokens_ +=
        std::clamp<int64_t>(sequence.prompt_tokens - sequence.computed_tokens, 0, entry.num_tokens);
    sequence.computed_tokens += entry.num_tokens;
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
  for (SequenceList* queue : {&running_, &waiting_, &passed_}) {
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
  for (SequenceList* queue : {&running_, &waiting_, &passed_}) all.splice(all.end(), *queue);
  return all;
}

}  // namespace crible
