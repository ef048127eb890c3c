#include "server/completion_job.h"

#include "base/check.h"

namespace crible {

CompletionJob::CompletionJob(EngineService& engine, TokenInbox& inbox, ServerMetrics& metrics,
                             PreparedCompletion prepared, std::shared_ptr<const Tokenizer> tokenizer,
                             TimePoint arrival)
    : engine_(engine), inbox_(inbox), metrics_(metrics), prepared_(std::move(prepared)), arrival_(arrival) {
  metrics_.live_jobs.fetch_add(1, std::memory_order_relaxed);
  choices_.reserve(prepared_.prompts.size());
  for (const auto& prompt : prepared_.prompts) {
    auto matcher = StopStringMatcher::make(prepared_.options.stop, prepared_.options.include_stop_in_output);
    CHECK(matcher.has_value(), "stop strings were checked when the request was read");
    choices_.emplace_back(tokenizer, prepared_.options.skip_special_tokens, std::move(*matcher));
    prompt_tokens_ += static_cast<int64_t>(prompt.size());
  }
}

CompletionJob::~CompletionJob() { metrics_.live_jobs.fetch_sub(1, std::memory_order_relaxed); }

ApiResult<void> CompletionJob::start() {
  for (size_t i = 0; i < prepared_.prompts.size(); ++i) {
    const int choice = static_cast<int>(i);
    auto sequence = engine_.submit({.prompt = std::move(prepared_.prompts[i]),
                                    .sampling = prepared_.sampling,
                                    .cache_salt = prepared_.cache_salt,
                                    .on_output = [job = shared_from_this(), choice](const TokenOutput& output) {
                                      job->inbox_.push(job, choice, output);
                                    }});
    if (!sequence) {
      abandon();
      return tl::unexpected<ApiError>(to_api_error(sequence.error()));
    }
    choices_[i].sequence = *sequence;
    running_ += 1;
  }
  return {};
}

void CompletionJob::receive(int index, const TokenOutput& output) {
  ChoiceState& choice = choices_[static_cast<size_t>(index)];
  // Events still arrive after a stop string, after another choice failed, or when nobody listens.
  if (abandoned_ || error_ || !choice.finish_reason.empty()) return;
  choice.queued = output.queued;
  choice.scheduled = output.scheduled;
  choice.cached_tokens = output.cached_tokens;
  const size_t text_before = sink(choice).size();
  if (output.token >= 0) take_token(choice, output);
  if (choice.finish_reason.empty()) {
    switch (output.finish) {
      case FinishReason::kNone: break;
      case FinishReason::kStop: end_choice(choice, "stop"); break;
      case FinishReason::kLength: end_choice(choice, "length"); break;
      case FinishReason::kCancelled:
        fail({.status = 503, .type = "service_unavailable_error",
              .message = "the server ended this request because it is shutting down; send it again elsewhere",
              .code = "cancelled"});
        break;
      case FinishReason::kError:
        fail(to_api_error(output.error.value_or(Error{ErrorCode::kInternal, "the engine failed on this request"})));
        break;
    }
  }
  note_piece(choice, text_before);
  if (on_news_ && (finished() || (prepared_.options.stream && !pending_.empty()))) on_news_();
}

void CompletionJob::take_token(ChoiceState& choice, const TokenOutput& output) {
  const TimePoint time = output.time;
  if (choice.output_tokens == 0) {
    choice.first_token = time;
    metrics_.time_to_first_token.observe(to_seconds(time - arrival_));
  } else {
    metrics_.inter_token_latency.observe(to_seconds(time - choice.last_token));
  }
  choice.last_token = time;
  choice.output_tokens = output.output_tokens;
  // A stop token ends the text; it is part of it only when the caller asks.
  if (output.finish == FinishReason::kStop && !prepared_.options.include_stop_in_output) return;
  piece_.clear();
  choice.detokenizer.push(output.token, piece_);
  if (choice.stop_strings.push(piece_, sink(choice))) {
    if (output.finish == FinishReason::kNone) engine_.cancel(output.sequence);
    end_choice(choice, "stop");
  }
}

void CompletionJob::end_choice(ChoiceState& choice, std::string_view finish_reason) {
  if (!choice.stop_strings.stopped()) {
    choice.stop_strings.push(choice.detokenizer.flush(), sink(choice));
    choice.stop_strings.flush(sink(choice));
  }
  choice.finish_reason = finish_reason;
  running_ -= 1;
  metrics_.count_finished(finish_reason);
  metrics_.e2e_request_latency.observe(to_seconds(choice.last_token - arrival_));
  metrics_.request_queue_time.observe(to_seconds(choice.scheduled - choice.queued));
  metrics_.request_prefill_time.observe(to_seconds(choice.first_token - choice.scheduled));
  const double decode_seconds = to_seconds(choice.last_token - choice.first_token);
  metrics_.request_decode_time.observe(decode_seconds);
  if (choice.output_tokens > 1) {
    metrics_.request_time_per_output_token.observe(decode_seconds / static_cast<double>(choice.output_tokens - 1));
  }
}

void CompletionJob::note_piece(ChoiceState& choice, size_t text_before) {
  if (!prepared_.options.stream) return;
  if (pending_.text.size() == text_before && choice.finish_reason.empty()) return;
  pending_.pieces.push_back({.choice = static_cast<int>(&choice - choices_.data()),
                             .end = pending_.text.size(),
                             .finish_reason = choice.finish_reason});
}

void CompletionJob::fail(ApiError error) {
  error_ = std::move(error);
  for (const ChoiceState& choice : choices_) {
    if (choice.finish_reason.empty()) metrics_.count_finished("error");
  }
  cancel_running();
}

void CompletionJob::abandon() {
  if (abandoned_ || finished()) return;
  abandoned_ = true;
  for (const ChoiceState& choice : choices_) {
    if (choice.sequence && choice.finish_reason.empty()) metrics_.count_finished("abort");
  }
  cancel_running();
}

void CompletionJob::cancel_running() {
  for (const ChoiceState& choice : choices_) {
    if (choice.sequence && choice.finish_reason.empty()) engine_.cancel(*choice.sequence);
  }
}

void CompletionJob::take_pending(PendingText& taken) {
  taken.clear();
  std::swap(taken, pending_);
}

Usage CompletionJob::usage() const {
  Usage usage{.prompt_tokens = prompt_tokens_};
  for (const ChoiceState& choice : choices_) {
    usage.completion_tokens += choice.output_tokens;
    usage.cached_tokens += choice.cached_tokens;
  }
  return usage;
}

std::vector<Choice> CompletionJob::take_choices() {
  std::vector<Choice> taken;
  for (ChoiceState& choice : choices_) {
    taken.push_back({.text = std::move(choice.text), .finish_reason = choice.finish_reason});
  }
  return taken;
}

}  // namespace crible
