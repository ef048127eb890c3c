#include "load/validity.h"

#include <algorithm>
#include <cmath>

namespace crible::load {
namespace {

// Nearest-rank quantile; 0 for an empty sample.
double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  const auto rank = static_cast<ptrdiff_t>(std::ceil(q * static_cast<double>(values.size()))) - 1;
  const auto at = values.begin() + std::clamp<ptrdiff_t>(rank, 0, std::ssize(values) - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

class Judge {
 public:
  Judge(const RunFacts& facts, const ValidityLimits& limits) : facts_(facts), limits_(limits) {}

  Judgement run() {
    check_clocks();
    check_delivery();
    check_lag();
    for (const CheckedExchange& checked : facts_.exchanges) count(checked);
    report();
    return std::move(judgement_);
  }

 private:
  template <typename... Args>
  void find(FindingKind kind, fmt::format_string<Args...> format, Args&&... args) {
    judgement_.findings.push_back({kind, fmt::format(format, std::forward<Args>(args)...)});
    if (spoils(kind)) judgement_.valid = false;
  }

  void check_clocks() {
    const double steady = to_ms(facts_.steady);
    const double wall = std::chrono::duration<double, std::milli>(facts_.wall).count();
    if (std::abs(steady - wall) > limits_.clock_ms + limits_.clock_share * steady) {
      find(FindingKind::kClocksDisagree, "{:.0f} ms by the monotonic clock, {:.0f} ms by the wall clock",
           steady, wall);
    }
  }

  void check_delivery() {
    int ended = 0;
    for (const auto& checked : facts_.exchanges)
      ended += checked.exchange->status != ExchangeStatus::kCancelled;
    if (ended < facts_.planned)
      find(FindingKind::kNotDelivered, "{} of {} requests were made", ended, facts_.planned);
  }

  void check_lag() {
    std::vector<double> lags;
    std::vector<double> latencies;
    for (const auto& checked : facts_.exchanges) {
      const Exchange& e = *checked.exchange;
      if (e.sent) lags.push_back(to_ms(*e.sent - e.scheduled));
      if (e.status == ExchangeStatus::kOk) latencies.push_back(to_ms(e.ended - e.scheduled));
    }
    const double lag = quantile(lags, 0.9);
    const double allowed = std::max(limits_.lag_ms, limits_.lag_share * quantile(latencies, 0.5));
    if (lag > allowed)
      find(FindingKind::kClientLag, "90% of requests left within {:.1f} ms, {:.1f} ms allowed", lag, allowed);
  }

  void count(const CheckedExchange& checked) {
    const Exchange& e = *checked.exchange;
    if (e.status == ExchangeStatus::kCancelled) return;
    if (e.status != ExchangeStatus::kOk) {
      const bool refused = e.http_code >= 400 && e.http_code < 500 && e.http_code != 429;
      note(refused ? refused_ : failed_, fmt::format("{}: {}", exchange_status_name(e.status), e.error));
      return;
    }
    if (!e.usage) return note(no_usage_, "no usage in the last frame");
    const Usage& usage = *e.usage;
    if (checked.prompt_tokens && usage.prompt_tokens != *checked.prompt_tokens) {
      note(prompt_, fmt::format("{} tokens, {} asked for", usage.prompt_tokens, *checked.prompt_tokens));
    }
    if (checked.output_tokens && usage.output_tokens != *checked.output_tokens) {
      note(output_, fmt::format("{} tokens, {} asked for", usage.output_tokens, *checked.output_tokens));
    }
    const int64_t cached = usage.cached_tokens.value_or(0);
    if (checked.cache == CacheExpectation::kMiss && cached >= limits_.cache_block_tokens) {
      note(cached_miss_, fmt::format("{} of {} tokens were cached", cached, usage.prompt_tokens));
    }
    if (checked.cache == CacheExpectation::kHit && 2 * cached < usage.prompt_tokens) {
      note(cold_hit_, fmt::format("{} of {} tokens were cached", cached, usage.prompt_tokens));
    }
    if (std::ssize(e.tokens) < usage.output_tokens) {
      note(merged_, fmt::format("{} frames for {} tokens", e.tokens.size(), usage.output_tokens));
    }
  }

  struct Count {
    int requests = 0;
    std::string first;
  };

  static void note(Count& count, std::string detail) {
    if (count.requests++ == 0) count.first = std::move(detail);
  }

  void report() {
    const auto add = [&](FindingKind kind, const Count& count) {
      if (count.requests > 0) find(kind, "{} requests; the first: {}", count.requests, count.first);
    };
    add(FindingKind::kRefused, refused_);
    add(FindingKind::kPromptLength, prompt_);
    add(FindingKind::kOutputLength, output_);
    add(FindingKind::kUsageMissing, no_usage_);
    add(FindingKind::kMissWasCached, cached_miss_);
    add(FindingKind::kServerErrors, failed_);
    add(FindingKind::kHitNotConfirmed, cold_hit_);
    add(FindingKind::kFramesMerged, merged_);
  }

  const RunFacts& facts_;
  const ValidityLimits& limits_;
  Judgement judgement_;
  Count refused_, failed_, no_usage_, prompt_, output_, cached_miss_, cold_hit_, merged_;
};

}  // namespace

bool spoils(FindingKind kind) {
  switch (kind) {
    case FindingKind::kServerErrors:
    case FindingKind::kHitNotConfirmed:
    case FindingKind::kFramesMerged: return false;
    default: return true;
  }
}

const char* finding_name(FindingKind kind) {
  switch (kind) {
    case FindingKind::kClocksDisagree: return "clocks_disagree";
    case FindingKind::kNotDelivered: return "not_delivered";
    case FindingKind::kClientLag: return "client_lag";
    case FindingKind::kRefused: return "refused";
    case FindingKind::kPromptLength: return "prompt_length";
    case FindingKind::kOutputLength: return "output_length";
    case FindingKind::kUsageMissing: return "usage_missing";
    case FindingKind::kMissWasCached: return "miss_was_cached";
    case FindingKind::kServerErrors: return "server_errors";
    case FindingKind::kHitNotConfirmed: return "hit_not_confirmed";
    case FindingKind::kFramesMerged: return "frames_merged";
  }
  return "unknown";
}

Judgement judge(const RunFacts& facts, const ValidityLimits& limits) {
  return Judge(facts, limits).run();
}

}  // namespace crible::load
