#include "study/run/warm_up.h"

#include <algorithm>

#include "load/arrival.h"

namespace crible::study {
namespace {

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values.empty() ? 0 : values[values.size() / 2];
}

std::vector<double> last_of(const std::vector<double>& values, int count) {
  const auto n = std::min<ptrdiff_t>(count, std::ssize(values));
  return {values.end() - n, values.end()};
}

}  // namespace

bool is_steady(const std::vector<double>& values, int steady, double tolerance) {
  if (std::ssize(values) < steady) return false;
  const auto [low, high] = std::ranges::minmax(last_of(values, steady));
  return high - low <= tolerance * low;
}

Attempt<WarmUp> warm_up(load::Client& client, const load::WordPool& words, const std::string& model,
                        uint64_t seed, const WarmUpLimits& limits, const std::atomic<bool>& stop) {
  WarmUp result;
  std::vector<double> prefill_rates;
  std::vector<double> decode_rates;
  load::PromptMaker maker(words, seed);
  while (std::ssize(result.latencies_ms) < limits.most && !result.steady) {
    if (stop) return interrupted();
    const std::vector<TokenId> prompt = maker.tokens(limits.prompt_tokens);
    load::Exchange probe;
    load::run_closed_loop(
        client, {},
        [&](int, int) {
          return load::Request{.path = "/v1/completions",
                               .body = load::completion_body(model, prompt, limits.output_tokens, true),
                               .expected_tokens = limits.output_tokens};
        },
        [&](int, int, load::Exchange&& exchange) { probe = std::move(exchange); }, stop);
    if (probe.status == load::ExchangeStatus::kCancelled) return interrupted();
    if (probe.status != load::ExchangeStatus::kOk || probe.tokens.empty()) {
      const bool late = probe.status == load::ExchangeStatus::kTimedOut;
      return step_failed(late ? FailureCause::kHang : FailureCause::kUnknown,
                         fmt::format("a warm-up request failed: {} {}",
                                     load::exchange_status_name(probe.status), probe.error));
    }
    result.latencies_ms.push_back(to_ms(probe.tokens.back() - probe.scheduled));
    prefill_rates.push_back(limits.prompt_tokens / to_seconds(probe.tokens.front() - probe.scheduled));
    const double decode_s = to_seconds(probe.tokens.back() - probe.tokens.front());
    if (probe.tokens.size() > 1 && decode_s > 0)
      decode_rates.push_back((double(probe.tokens.size()) - 1) / decode_s);
    result.steady = is_steady(result.latencies_ms, limits.steady, limits.tolerance);
  }
  result.prefill_tokens_per_s = median(last_of(prefill_rates, limits.steady));
  result.decode_tokens_per_s = median(last_of(decode_rates, limits.steady));
  return result;
}

}  // namespace crible::study
