// An engine without a model: deterministic tokens at a stated pace, behind the same admission rules,
// memory plan, prefix accounting and event order as the real one. With it the server, the load
// generator and the study are exercised in milliseconds and their own ceilings measured. A prompt is
// computed whole between two decode steps; a sequence reserves its blocks for its longest output
// when it starts, so nothing is ever pre-empted.
#pragma once

#include <functional>
#include <memory>

#include "engine/engine_service.h"

namespace crible {

struct FakeEngineOptions {
  EngineConfig config;
  EngineModelInfo model = {.architecture = "fake", .quantization = "none", .path = "fake", .parameters = 0,
                           .weight_bytes = 100 << 20, .context_length = 8192, .vocabulary = 49152, .layers = 30};
  Nanoseconds per_prompt_token{0};  // for every prompt token that is not cached
  Nanoseconds per_step{0};          // for one decode step of all running sequences
  // The index-th output token (from 0) of a request; -1 ends the sequence with an error, as a model
  // fault would. Called on the engine's thread. Default: fake_token.
  std::function<TokenId(const EngineRequest&, int64_t index)> next_token;
};

// A token drawn from a hash of the prompt, the index and, above temperature 0, the request's seed.
// Ids below 64 are never drawn: special tokens stand there in many vocabularies.
TokenId fake_token(const EngineRequest& request, int64_t index, int64_t vocabulary);

Result<std::unique_ptr<EngineService>> start_fake_engine(FakeEngineOptions options);

}  // namespace crible
