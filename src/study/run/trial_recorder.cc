#include "study/run/trial_recorder.h"

#include <algorithm>

namespace crible::study {
namespace {

RequestStatus status_of(load::ExchangeStatus status) {
  switch (status) {
    case load::ExchangeStatus::kOk: return RequestStatus::kOk;
    case load::ExchangeStatus::kTimedOut: return RequestStatus::kTimeout;
    case load::ExchangeStatus::kCancelled: return RequestStatus::kCancelled;
    default: return RequestStatus::kError;
  }
}

load::CacheExpectation expectation_of(CacheRole role) {
  switch (role) {
    case CacheRole::kMiss: return load::CacheExpectation::kMiss;
    case CacheRole::kHit: return load::CacheExpectation::kHit;
    default: return load::CacheExpectation::kNone;
  }
}

}  // namespace

void TrialRecorder::add(RequestLabels labels, load::Exchange&& exchange) {
  std::optional<double> ttft_ms;
  const RequestStatus status = status_of(exchange.status);
  failures_ += status == RequestStatus::kError || status == RequestStatus::kTimeout;
  if (!exchange.tokens.empty()) ttft_ms = to_ms(exchange.tokens.front() - exchange.scheduled);
  entries_.push_back({std::move(labels), std::move(exchange)});
  if (on_request_) on_request_(requests(), ttft_ms);
}

RequestRecord TrialRecorder::to_record(int index, const Entry& entry) const {
  const auto since_start = [&](TimePoint at) {
    return std::chrono::duration_cast<Nanoseconds>(at - start_).count();
  };
  const load::Exchange& e = entry.exchange;
  RequestRecord record;
  record.index = index;
  record.role = entry.labels.role;
  record.pair_id = entry.labels.pair_id;
  record.turn = entry.labels.turn;
  record.stream = entry.labels.stream;
  record.level = entry.labels.level;
  record.scheduled_ns = since_start(e.scheduled);
  record.actual_send_ns = since_start(e.sent.value_or(e.scheduled));
  record.end_ns = since_start(e.ended);
  if (!e.tokens.empty()) {
    record.first_token_ns = since_start(e.tokens.front());
    record.last_token_ns = since_start(e.tokens.back());
    record.token_gaps_ns.reserve(e.tokens.size() - 1);
    for (size_t i = 1; i < e.tokens.size(); ++i) {
      record.token_gaps_ns.push_back(
          std::chrono::duration_cast<Nanoseconds>(e.tokens[i] - e.tokens[i - 1]).count());
    }
  }
  if (e.first_output) record.first_output_ns = since_start(*e.first_output);
  record.status = status_of(e.status);
  record.http_code = e.http_code;
  if (e.status != load::ExchangeStatus::kOk) {
    record.error = fmt::format("{}: {}", load::exchange_status_name(e.status), e.error);
  }
  record.finish_reason = e.finish_reason;
  if (e.usage) {
    record.prompt_tokens = e.usage->prompt_tokens;
    record.output_tokens = e.usage->output_tokens;
    record.cached_tokens = e.usage->cached_tokens;
  }
  return record;
}

void TrialRecorder::finish(int planned, TrialRecord& trial) {
  std::ranges::stable_sort(entries_, {}, [](const Entry& entry) { return entry.exchange.scheduled; });
  load::RunFacts facts;
  facts.planned = planned;
  facts.steady = now() - start_;
  facts.wall = std::chrono::duration_cast<Nanoseconds>(std::chrono::system_clock::now() - wall_start_);
  for (const Entry& entry : entries_) {
    trial.requests.push_back(to_record(static_cast<int>(trial.requests.size()), entry));
    facts.exchanges.push_back({&entry.exchange, entry.labels.prompt_tokens, entry.labels.output_tokens,
                               expectation_of(entry.labels.role)});
  }
  trial.duration_ns = std::chrono::duration_cast<Nanoseconds>(facts.steady).count();
  const load::Judgement judgement = load::judge(facts, {});
  trial.validity.valid = judgement.valid;
  for (const load::Finding& finding : judgement.findings) {
    trial.validity.reasons.push_back(fmt::format("{}: {}", load::finding_name(finding.kind), finding.detail));
  }
}

}  // namespace crible::study
