// One completion request at work: for each prompt one or more sequences of the engine, whose tokens become text,
// are watched for stop strings, counted and timed. Lives on the I/O thread; the engine's thread only
// touches it through the inbox. Shared between the connection that answers and the sequences that
// still run: when the client goes away the job lives until the engine has let go of the last one.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine_service.h"
#include "server/prepare.h"
#include "server/metrics.h"
#include "server/token_inbox.h"
#include "text/detokenizer.h"
#include "text/stop_strings.h"
#include "wire/completion_response.h"
#include "wire/logprobs.h"

namespace crible {

// Text of a stream that is not written yet, cut as it came. Bounded by what max_tokens allows: a slow
// reader costs the text of its answer, not the frames.
struct PendingText {
  struct Piece {
    int choice = 0;
    size_t end = 0;                  // of its text, in `text`
    size_t scores_end = 0;           // of its tokens, in `scores`
    size_t token_ids_end = 0;        // and in `token_ids`
    std::string_view finish_reason;  // not empty: the choice ends with this piece
  };
  std::string text;
  TokenScores scores;              // where log-probabilities are asked for
  std::vector<TokenId> token_ids;  // where ids are
  std::vector<Piece> pieces;

  bool empty() const { return pieces.empty(); }
  size_t bytes() const {
    return text.size() + scores.bytes() + token_ids.size() * sizeof(TokenId) + pieces.size() * sizeof(Piece);
  }
  void clear() {
    text.clear();
    scores.clear();
    token_ids.clear();
    pieces.clear();
  }
};

class CompletionJob : public std::enable_shared_from_this<CompletionJob> {
 public:
  // engine, inbox and metrics must outlive the job.
  CompletionJob(EngineService& engine, TokenInbox& inbox, ServerMetrics& metrics, PreparedCompletion prepared,
                std::shared_ptr<const Tokenizer> tokenizer, TimePoint arrival);
  ~CompletionJob();
  CompletionJob(const CompletionJob&) = delete;
  CompletionJob& operator=(const CompletionJob&) = delete;

  // Hands every prompt to the engine; on error none goes on.
  ApiResult<void> start();
  // One event of the sequence of `choice`, in order.
  void receive(int choice, const TokenOutput& output);
  // Nobody waits for the answer any more: what still runs is cancelled.
  void abandon();
  // The time given for the answer is over: it ends in an error, and what still runs is cancelled.
  void time_out();

  // Called when there is news: a piece for a stream, or the end.
  void set_on_news(std::function<void()> on_news) { on_news_ = std::move(on_news); }
  bool has_news() const { return finished() || !pending_.empty(); }
  // What is kept for a reader that is behind.
  size_t pending_bytes() const { return pending_.bytes(); }
  // Swaps what is pending with `taken`, whose memory is used again.
  void take_pending(PendingText& taken);

  // Every choice has ended, or one has failed.
  bool finished() const { return error_.has_value() || running_ == 0; }
  const std::optional<ApiError>& error() const { return error_; }
  const GenerationOptions& options() const { return prepared_.options; }
  CompletionKind kind() const { return prepared_.kind; }
  int choices() const { return static_cast<int>(choices_.size()); }
  // Kept where the request asks to see it.
  const std::vector<TokenId>& prompt_of(int choice) const { return prompt(choice).tokens; }
  Usage usage() const;
  // The whole texts, of each prompt the n best; only gathered when the request does not stream.
  std::vector<Choice> take_choices();

 private:
  struct ChoiceState {
    ChoiceState(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special, StopStringMatcher matcher)
        : detokenizer(std::move(tokenizer), skip_special), stop_strings(std::move(matcher)) {}
    Detokenizer detokenizer;
    StopStringMatcher stop_strings;
    std::optional<SeqId> sequence;  // once the engine has accepted it
    std::string text;
    TokenScores scores;
    std::vector<TokenId> token_ids;
    int64_t text_characters = 0;  // of the prompt's echo and all tokens so far, whether held back or not
    double cumulative_logprob = 0;
    std::string_view finish_reason;
    int64_t output_tokens = 0;
    int64_t cached_tokens = 0;
    TimePoint first_token, last_token, scheduled, queued;
  };

  // How much there is for a choice's frames.
  struct Extent {
    size_t text, scores, token_ids;
    bool operator==(const Extent&) const = default;
  };

  int per_prompt() const { return static_cast<int>(prepared_.options.best_of); }
  int index_of(const ChoiceState& choice) const { return static_cast<int>(&choice - choices_.data()); }
  const PreparedPrompt& prompt(int choice) const { return prepared_.prompts[static_cast<size_t>(choice / per_prompt())]; }
  bool keeps_prompts() const;
  void take_token(ChoiceState& choice, const TokenOutput& output);
  void take_prompt(ChoiceState& choice, const TokenOutput& output);
  void take_text(ChoiceState& choice, const TokenOutput& output);
  void score_token(TokenScores& scores, int64_t text_offset, std::span<const TokenLogprob> logprobs) const;
  // Of the choice's prompt, as choice 0 reported them.
  TokenScores prompt_scores(int choice) const;
  Choice take_choice(ChoiceState& choice);
  void end_choice(ChoiceState& choice, std::string_view finish_reason);
  void fail(ApiError error);
  void cancel_running();
  // The place to which the text of a choice goes.
  std::string& sink(ChoiceState& choice) { return prepared_.options.stream ? pending_.text : choice.text; }
  TokenScores& score_sink(ChoiceState& choice) { return prepared_.options.stream ? pending_.scores : choice.scores; }
  std::vector<TokenId>& id_sink(ChoiceState& choice) {
    return prepared_.options.stream ? pending_.token_ids : choice.token_ids;
  }
  Extent pending_extent() const { return {pending_.text.size(), pending_.scores.size(), pending_.token_ids.size()}; }
  void note_piece(ChoiceState& choice, const Extent& before);

  EngineService& engine_;
  TokenInbox& inbox_;
  ServerMetrics& metrics_;
  PreparedCompletion prepared_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  TimePoint arrival_;
  std::vector<ChoiceState> choices_;
  int running_ = 0;
  bool abandoned_ = false;
  int64_t prompt_tokens_ = 0;
  std::optional<ApiError> error_;
  PendingText pending_;
  std::string piece_;  // text of one token, reused
  // What choice 0 of each prompt reported with its first token, which comes before the others' first: they
  // start behind its prompt.
  std::vector<std::vector<TokenLogprob>> prompt_logprobs_;
  std::function<void()> on_news_;
};

}  // namespace crible
