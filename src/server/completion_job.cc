#include "server/completion_job.h"

#include <algorithm>
#include <limits>

#include "base/check.h"
#include "text/utf8.h"

namespace crible {
namespace {

// Code points of a valid text.
int64_t characters(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; });
}

}  // namespace

CompletionJob::CompletionJob(EngineService& engine, TokenInbox& inbox, ServerMetrics& metrics,
                             PreparedCompletion prepared, std::shared_ptr<const Tokenizer> tokenizer,
                             TimePoint arrival)
    : engine_(engine),
      inbox_(inbox),
      metrics_(metrics),
      prepared_(std::move(prepared)),
      tokenizer_(std::move(tokenizer)),
      arrival_(arrival),
      prompt_logprobs_(prepared_.prompts.size()) {
  metrics_.live_jobs.fetch_add(1, std::memory_order_relaxed);
  choices_.reserve(prepared_.prompts.size() * static_cast<size_t>(per_prompt()));
  for (const PreparedPrompt& prompt : prepared_.prompts) {
    prompt_tokens_ += static_cast<int64_t>(prompt.tokens.size());
    for (int i = 0; i < per_prompt(); ++i) {
      auto matcher = StopStringMatcher::make(prepared_.options.stop, prepared_.options.include_stop_in_output);
      CHECK(matcher.has_value(), "stop strings were checked when the request was read");
      choices_.emplace_back(tokenizer_, prepared_.options.skip_special_tokens, std::move(*matcher));
    }
  }
}

CompletionJob::~CompletionJob() { metrics_.live_jobs.fetch_sub(1, std::memory_order_relaxed); }

bool CompletionJob::keeps_prompts() const {
  return prepared_.options.echo || prepared_.options.return_token_ids || prepared_.options.prompt_logprobs;
}

ApiResult<void> CompletionJob::start() {
  for (size_t p = 0; p < prepared_.prompts.size(); ++p) {
    std::vector<TokenId>& tokens = prepared_.prompts[p].tokens;
    const int first = static_cast<int>(p) * per_prompt();
    auto sequence = engine_.submit({.prompt = keeps_prompts() ? tokens : std::move(tokens),
                                    .n = per_prompt(),
                                    .sampling = prepared_.sampling,
                                    .cache_salt = prepared_.cache_salt,
                                    .priority = prepared_.options.priority,
                                    .on_output = [job = shared_from_this(), first](const TokenOutput& output) {
                                      job->inbox_.push(job, first + output.choice, output);
                                    }});
    if (!sequence) {
      abandon();
      return tl::unexpected<ApiError>(to_api_error(sequence.error()));
    }
    for (int i = 0; i < per_prompt(); ++i) {
      choices_[static_cast<size_t>(first + i)].sequence = SeqId{sequence->value + i};
      running_ += 1;
    }
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
  const Extent before = pending_extent();
  if (output.token >= 0) take_token(choice, output);
  if (choice.finish_reason.empty()) {
    switch (output.finish) {
      case FinishReason::kNone: break;
      // A token that nobody asked for may be a stop token; what ended the answer is its length of none.
      case FinishReason::kStop: end_choice(choice, prepared_.options.max_tokens == 0 ? "length" : "stop"); break;
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
  note_piece(choice, before);
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
  const bool first = choice.output_tokens == 0;
  choice.output_tokens = output.output_tokens;
  if (first) take_prompt(choice, output);
  if (prepared_.options.max_tokens == 0) {
    choice.output_tokens = 0;
    return;
  }
  if (!output.logprobs.empty()) choice.cumulative_logprob += static_cast<double>(output.logprobs[0].logprob);
  if (prepared_.options.logprobs) score_token(score_sink(choice), choice.text_characters, output.logprobs);
  if (prepared_.options.return_token_ids) id_sink(choice).push_back(output.token);
  take_text(choice, output);
}

// Before the first token: the prompt's echo, with its tokens' scores.
void CompletionJob::take_prompt(ChoiceState& choice, const TokenOutput& output) {
  const int index = index_of(choice);
  if (!output.prompt_logprobs.empty()) {
    prompt_logprobs_[static_cast<size_t>(index / per_prompt())].assign(output.prompt_logprobs.begin(),
                                                                       output.prompt_logprobs.end());
  }
  if (!prepared_.options.echo) return;
  const PreparedPrompt& echoed = prompt(index);
  const auto shown = std::span(echoed.tokens).subspan(echoed.text_from);
  const std::string text = tokenizer_->decode(shown, /*skip_special=*/false);
  sink(choice) += text;
  choice.text_characters = characters(text);
  if (!prepared_.options.logprobs) return;
  const TokenScores scores = prompt_scores(index);
  score_sink(choice).append(scores, 0, scores.size());
}

TokenScores CompletionJob::prompt_scores(int choice) const {
  const PreparedPrompt& scored = prompt(choice);
  const std::vector<TokenLogprob>& logprobs = prompt_logprobs_[static_cast<size_t>(choice / per_prompt())];
  const size_t stride = 1 + static_cast<size_t>(prepared_.sampling.prompt_logprobs.value_or(0));
  TokenScores scores;
  Detokenizer detokenizer(tokenizer_, /*skip_special=*/false);
  int64_t offset = 0;
  for (size_t i = 0; i < scored.tokens.size(); ++i) {
    // Nothing comes before the first token that could make it likely or not.
    const TokenLogprob unknown{scored.tokens[i], std::numeric_limits<float>::quiet_NaN(), 0};
    const bool known = i > 0 && i * stride <= logprobs.size();
    score_token(scores, offset, known ? std::span(logprobs).subspan((i - 1) * stride, stride) : std::span(&unknown, 1));
    if (i >= scored.text_from) offset += characters(detokenizer.push(scored.tokens[i]));
  }
  return scores;
}

void CompletionJob::score_token(TokenScores& scores, int64_t text_offset, std::span<const TokenLogprob> logprobs) const {
  scores.begin_token(text_offset);
  for (const TokenLogprob& logprob : logprobs) {
    if (logprob.id < 0) continue;
    const std::string_view bytes = tokenizer_->token_bytes(logprob.id);
    scores.add({.id = logprob.id,
                .bytes = bytes,
                .logprob = logprob.logprob,
                .rank = logprob.rank,
                .partial = !is_valid_utf8(bytes)});
  }
}

void CompletionJob::take_text(ChoiceState& choice, const TokenOutput& output) {
  // A stop token ends the text; it is part of it only when the caller asks.
  if (output.finish == FinishReason::kStop && !prepared_.options.include_stop_in_output) return;
  piece_.clear();
  choice.detokenizer.push(output.token, piece_);
  choice.text_characters += characters(piece_);
  // Before min_tokens nothing ends an answer.
  if (output.output_tokens < prepared_.options.min_tokens) {
    sink(choice) += piece_;
  } else if (choice.stop_strings.push(piece_, sink(choice))) {
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

void CompletionJob::note_piece(ChoiceState& choice, const Extent& before) {
  if (!prepared_.options.stream) return;
  if (pending_extent() == before && choice.finish_reason.empty()) return;
  pending_.pieces.push_back({.choice = index_of(choice),
                             .end = pending_.text.size(),
                             .scores_end = pending_.scores.size(),
                             .token_ids_end = pending_.token_ids.size(),
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

void CompletionJob::time_out() {
  if (abandoned_ || finished()) return;
  fail({.status = 504, .type = "timeout_error",
        .message = "the time for this request is over (its timeout, or the server's request-timeout); ask for fewer "
                   "tokens or allow more time",
        .code = "deadline_exceeded"});
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

// Every generated token counts, of answers that are not sent too; a prompt counts once for all its answers.
Usage CompletionJob::usage() const {
  Usage usage{.prompt_tokens = prompt_tokens_};
  for (const ChoiceState& choice : choices_) {
    usage.completion_tokens += choice.output_tokens;
    if (index_of(choice) % per_prompt() == 0) usage.cached_tokens += choice.cached_tokens;
  }
  return usage;
}

std::vector<Choice> CompletionJob::take_choices() {
  std::vector<Choice> taken;
  for (auto first = choices_.begin(); first != choices_.end(); first += per_prompt()) {
    std::vector<ChoiceState*> answers;
    for (int i = 0; i < per_prompt(); ++i) answers.push_back(&first[i]);
    if (prepared_.options.best_of > prepared_.options.n) {
      std::stable_sort(answers.begin(), answers.end(), [](const ChoiceState* a, const ChoiceState* b) {
        return a->cumulative_logprob > b->cumulative_logprob;
      });
    }
    answers.resize(static_cast<size_t>(prepared_.options.n));
    for (ChoiceState* answer : answers) taken.push_back(take_choice(*answer));
  }
  return taken;
}

Choice CompletionJob::take_choice(ChoiceState& choice) {
  const GenerationOptions& options = prepared_.options;
  Choice taken{.text = std::move(choice.text), .finish_reason = choice.finish_reason};
  if (options.logprobs) {
    append_logprobs(taken.logprobs, kind(), choice.scores, 0, choice.scores.size(), options.tokens_as_ids);
  }
  if (options.prompt_logprobs) append_prompt_logprobs(taken.prompt_logprobs, prompt_scores(index_of(choice)));
  if (options.return_token_ids) {
    taken.token_ids = std::move(choice.token_ids);
    taken.prompt_token_ids = prompt(index_of(choice)).tokens;
  }
  return taken;
}

}  // namespace crible
