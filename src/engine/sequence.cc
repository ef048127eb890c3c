#include "engine/sequence.h"

namespace crible {

uint64_t sequence_seed(const SamplingParams& sampling, uint64_t engine_seed, SeqId id) {
  if (sampling.seed) return *sampling.seed;
  // SplitMix64 (Steele, Lea, Flood 2014): neighbouring ids give unrelated seeds.
  uint64_t z = engine_seed + 0x9e3779b97f4a7c15u * (static_cast<uint64_t>(id.value) + 1);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

SequenceList make_sequence(SeqId id, EngineRequest request, uint64_t engine_seed, int64_t block_size) {
  SequenceList list(1);
  Sequence& s = list.front();
  s.id = id;
  s.prompt_tokens = static_cast<int64_t>(request.prompt.size());
  s.tokens = std::move(request.prompt);
  const int64_t longest = s.prompt_tokens + request.sampling.max_tokens;
  s.tokens.reserve(static_cast<size_t>(longest));
  s.blocks.reserve(static_cast<size_t>(ceil_div(longest, block_size)));
  s.block_hashes.reserve(static_cast<size_t>(longest / block_size));
  s.sampling = std::move(request.sampling);
  s.seed = sequence_seed(s.sampling, engine_seed, id);
  s.cache_salt = request.cache_salt;
  s.on_output = std::move(request.on_output);
  s.event.sequence = id;
  s.event.queued = now();
  return list;
}

}  // namespace crible
