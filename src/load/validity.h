// Did the load generator do what it promised? A pure judgement over what was recorded. Findings that
// spoil the measurement make a run invalid; the others are remarks. What the server did wrong (errors,
// time-outs, a cache that does not hit) is a result and never makes a run invalid.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "load/exchange.h"

namespace crible::load {

enum class CacheExpectation { kNone, kMiss, kHit };

// What was asked of one request, beside what came of it.
struct CheckedExchange {
  const Exchange* exchange = nullptr;
  std::optional<int64_t> prompt_tokens;  // exact length asked for, where known
  std::optional<int64_t> output_tokens;  // exact length asked for (ignore_eos)
  CacheExpectation cache = CacheExpectation::kNone;
};

enum class FindingKind {
  // Spoil the run.
  kClocksDisagree,  // the machine slept, or was stopped, during the run
  kNotDelivered,    // fewer requests than planned
  kClientLag,       // sent too late: the generator had no processor
  kRefused,         // the server called our request wrong (4xx but not 429)
  kPromptLength,    // usage.prompt_tokens is not what was asked for
  kOutputLength,    // usage.completion_tokens is not what was asked for
  kUsageMissing,    // nothing to check the lengths with
  kMissWasCached,   // a prompt that should be new was in the cache
  // Remarks.
  kServerErrors,     // some requests failed
  kHitNotConfirmed,  // the server's count does not show the hit
  kFramesMerged,     // fewer token frames than tokens: gaps are between frames
};
bool spoils(FindingKind kind);
const char* finding_name(FindingKind kind);

struct Finding {
  FindingKind kind;
  std::string detail;
};

struct ValidityLimits {
  double lag_ms = 10;               // 90th percentile of actual - scheduled, or this share of the median
  double lag_share = 0.10;          // E2EL if that is more
  int64_t cache_block_tokens = 16;  // a MISS may find less than this
  double clock_share = 0.01;
  double clock_ms = 50;
};

struct RunFacts {
  int planned = 0;
  Clock::duration steady{};         // length of the run by the monotonic clock
  std::chrono::nanoseconds wall{};  // and by the wall clock
  std::vector<CheckedExchange> exchanges;
};

struct Judgement {
  bool valid = true;
  std::vector<Finding> findings;
};

Judgement judge(const RunFacts& facts, const ValidityLimits& limits);

}  // namespace crible::load
