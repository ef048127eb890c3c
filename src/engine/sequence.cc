#include "engine/sequence.h"

#include <algorithm>
#include <limits>

namespace crible {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): neighbouring numbers give unrelated seeds.
uint64_t mix(uint64_t seed, uint64_t number) {
  uint64_t z = seed + 0x9e3779b97f4a7c15u * (number + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void fill(Sequence& s, const EngineRequest& request, int64_t block_size) {
  s.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  const int64_t longest = s.prompt_tokens + request.sampling.max_tokens;
  s.tokens.reserve(static_cast<size_t>(longest));
  s.tokens = request.prompt;
  s.blocks.reserve(static_cast<size_t>(ceil_div(longest, block_size)));
  s.block_hashes.reserve(static_cast<size_t>(longest / block_size));
  s.sampling = request.sampling;
  s.sampling_state = SequenceSampling::make(s.sampling, s.tokens, s.id);
  s.cache_salt = request.cache_salt;
  s.priority = request.priority;
  s.on_output = request.on_output;
}

}  // namespace

uint64_t sequence_seed(const SamplingParams& sampling, int32_t choice, uint64_t engine_seed, SeqId id) {
  if (!sampling.seed) return mix(engine_seed, static_cast<uint64_t>(id.value));
  return choice == 0 ? *sampling.seed : mix(*sampling.seed, static_cast<uint64_t>(choice));
}

SequenceList make_sequences(SeqId first, EngineRequest request, uint64_t engine_seed, int64_t block_size) {
  SequenceList list(static_cast<size_t>(request.n));
  const TimePoint queued = now();
  int32_t choice = 0;
  for (Sequence& s : list) {
    s.id = SeqId{first.value + choice};
    if (choice > 0) s.fork_of = first;
    fill(s, request, block_size);
    s.seed = sequence_seed(s.sampling, choice, engine_seed, s.id);
    s.event.sequence = s.id;
    s.event.choice = choice++;
    s.event.queued = queued;
    // One answer scores the prompt for all.
    request.sampling.prompt_logprobs.reset();
  }
  return list;
}

int64_t scoring_rows(const Sequence& s, int64_t computed, int64_t tokens) {
  if (s.sampling_state == nullptr) return 0;
  const int64_t first = std::max(computed, s.sampling_state->first_unscored());
  const int64_t end = std::min(computed + tokens, s.sampling_state->scorable_rows());
  return std::max<int64_t>(0, end - first);
}

int64_t tokens_within_rows(const Sequence& s, int64_t rows) {
  if (s.sampling_state == nullptr) return std::numeric_limits<int64_t>::max();
  const int64_t first = std::max(s.computed_tokens, s.sampling_state->first_unscored());
  if (first + rows >= s.sampling_state->scorable_rows()) return std::numeric_limits<int64_t>::max();
  return first + rows - s.computed_tokens;
}

}  // namespace crible
