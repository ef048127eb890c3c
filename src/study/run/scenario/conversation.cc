// Chats of many turns: every turn sends the whole history, the server's real answers included. Answers
// have a fixed length, so that the histories of all configurations grow alike.
#include <deque>

#include "study/run/scenario/scenario.h"

namespace crible::study {
namespace {

// Tokens that a chat template adds per message, about; for the estimate only.
constexpr int kTemplateTokens = 6;

// One client stream: its conversations one after another, turn by turn.
class Talk {
 public:
  Talk(ScenarioContext& context, int stream, int conversations, uint64_t seed)
      : context_(context), maker_(context.words, seed), stream_(stream), conversations_left_(conversations) {
    begin();
  }

  void send_turn(TimePoint scheduled) {
    history_.push_back({"user", user_text()});
    load::Request request{.path = "/v1/chat/completions",
                          .body = load::chat_body(context_.model, history_, output_tokens(), true),
                          .expected_tokens = output_tokens(),
                          .keep_text = true,
                          .timeout = context_.request_timeout};
    context_.client.submit(std::move(request), scheduled,
                           [this](load::Exchange&& exchange) { on_reply(std::move(exchange)); });
  }

 private:
  int output_tokens() const { return context_.spec.integer("output_tokens"); }

  std::string user_text() {
    std::string text = maker_.text(context_.spec.integer("user_tokens"));
    return text.substr(1);
  }

  void begin() {
    turn_ = 0;
    history_.clear();
    const int system_tokens = context_.spec.integer("system_tokens");
    if (system_tokens > 0) history_.push_back({"system", maker_.text(system_tokens).substr(1)});
  }

  void on_reply(load::Exchange&& exchange) {
    const bool good = exchange.status == load::ExchangeStatus::kOk;
    const bool stopped = exchange.status == load::ExchangeStatus::kCancelled;
    const TimePoint ended = exchange.ended;
    history_.push_back({"assistant", std::move(exchange.text)});
    context_.recorder.add({.turn = turn_, .stream = stream_, .output_tokens = output_tokens()},
                          std::move(exchange));
    if (stopped) return;
    // After a failed turn the history has a hole: that conversation is over.
    if (!good || ++turn_ == context_.spec.integer("turns")) {
      if (--conversations_left_ == 0) return;
      begin();
    }
    send_turn(ended);
  }

  ScenarioContext& context_;
  load::PromptMaker maker_;
  int stream_;
  int conversations_left_;
  int turn_ = 0;
  std::vector<load::ChatMessage> history_;
};

}  // namespace

ScenarioWork conversation_work(const ScenarioSpec& spec) {
  const int streams = spec.integer("streams");
  const int conversations = spec.integer("conversations");
  const int turns = spec.integer("turns");
  ScenarioWork work{.requests = streams * conversations * turns};
  double history = spec.integer("system_tokens") + kTemplateTokens;
  for (int turn = 0; turn < turns; ++turn) {
    history += spec.integer("user_tokens") + kTemplateTokens;
    work.prompt_tokens += streams * conversations * history;
    history += spec.integer("output_tokens") + kTemplateTokens;
  }
  work.decode_steps = double(conversations) * turns * spec.integer("output_tokens");
  return work;
}

void run_conversation(ScenarioContext& context) {
  std::deque<Talk> talks;
  for (int stream = 0; stream < context.spec.integer("streams"); ++stream) {
    // An odd multiplier keeps the streams' seeds apart.
    const uint64_t seed = context.seed + 0x9e3779b97f4a7c15ULL * static_cast<uint64_t>(stream + 1);
    talks.emplace_back(context, stream, context.spec.integer("conversations"), seed);
  }
  const TimePoint start = now();
  for (Talk& talk : talks) talk.send_turn(start);
  context.client.run(context.stop);
}

}  // namespace crible::study
