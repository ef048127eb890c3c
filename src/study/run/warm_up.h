// Runs the same small probe until its latency is steady: the last few agree within a tolerance. The
// reference grid took its first, cold request for the server's speed. Also measures the two speeds that
// the estimate of the study's time needs.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "load/client.h"
#include "load/prompt.h"
#include "study/run/attempt.h"

namespace crible::study {

struct WarmUpLimits {
  int steady = 3;           // probes that must agree
  double tolerance = 0.10;  // (largest - smallest) / smallest
  int most = 10;            // probes at most: a noisy machine is recorded, not waited for
  int prompt_tokens = 96;
  int output_tokens = 8;
};

struct WarmUp {
  std::vector<double> latencies_ms;  // E2EL of every probe
  bool steady = false;
  double prefill_tokens_per_s = 0;  // medians over the probes that were steady (or last)
  double decode_tokens_per_s = 0;
};

// Fails if a probe fails.
Attempt<WarmUp> warm_up(load::Client& client, const load::WordPool& words, const std::string& model,
                        uint64_t seed, const WarmUpLimits& limits, const std::atomic<bool>& stop);

// Whether the last `steady` values agree within the tolerance.
bool is_steady(const std::vector<double>& values, int steady, double tolerance);

}  // namespace crible::study
