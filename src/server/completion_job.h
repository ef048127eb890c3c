// One completion request at work: a sequence of the engine for each prompt, whose tokens become text,
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

namespace crible {

// Text of a stream that is not written yet, cut as it came. Bounded by what max_tokens allows: a slow
// reader costs the text of its answer, not the frames.
struct PendingText {
  struct Piece {
    int choice = 0;
    size_t end = 0;                  // of its text, in `text`
    std::string_view finish_reason;  // not empty: the choice ends with this piece
  };
  std::string text;
  std::vector<Piece> pieces;

  bool empty() const { return pieces.empty(); }
  void clear() {
    text.clear();
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

  // Called when there is news: a piece for a stream, or the end.
  void set_on_news(std::function<void()> on_news) { on_news_ = std::move(on_news); }
  bool has_news() const { return finished() || !pending_.empty(); }
  // Swaps what is pending with `taken`, whose memory is used again.
  void take_pending(PendingText& taken);

  // Every choice has ended, or one has failed.
  bool finished() const { return error_.has_value() || running_ == 0; }
  const std::optional<ApiError>& error() const { return error_; }
  const GenerationOptions& options() const { return prepared_.options; }
  CompletionKind kind() const { return prepared_.kind; }
  int choices() const { return static_cast<int>(choices_.size()); }
  Usage usage() const;
  // The whole texts; only gathered when the request does not stream.
  std::vector<Choice> take_choices();

 private:
  struct ChoiceState {
    ChoiceState(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special, StopStringMatcher matcher)
        : detokenizer(std::move(tokenizer), skip_special), stop_strings(std::move(matcher)) {}
    Detokenizer detokenizer;
    StopStringMatcher stop_strings;
    std::optional<SeqId> sequence;  // once the engine has accepted it
    std::string text;
    std::string_view finish_reason;
    int64_t output_tokens = 0;
    int64_t cached_tokens = 0;
    TimePoint first_token, last_token, scheduled, queued;
  };

  void take_token(ChoiceState& choice, const TokenOutput& output);
  void end_choice(ChoiceState& choice, std::string_view finish_reason);
  void fail(ApiError error);
  void cancel_running();
  // The place to which the text of a choice goes.
  std::string& sink(ChoiceState& choice) { return prepared_.options.stream ? pending_.text : choice.text; }
  void note_piece(ChoiceState& choice, size_t text_before);

  EngineService& engine_;
  TokenInbox& inbox_;
  ServerMetrics& metrics_;
  PreparedCompletion prepared_;
  TimePoint arrival_;
  std::vector<ChoiceState> choices_;
  int running_ = 0;
  bool abandoned_ = false;
  int64_t prompt_tokens_ = 0;
  std::optional<ApiError> error_;
  PendingText pending_;
  std::string piece_;  // text of one token, reused
  std::function<void()> on_news_;
};

}  // namespace crible
