#include "study/run/gate.h"

#include <algorithm>

#include "load/arrival.h"
#include "load/prompt.h"

namespace crible::study {
namespace {

constexpr int kAnswerTokens = 24;
constexpr const char* kQuestion = "Name three colours of the rainbow.";
constexpr size_t kShortestJudged = 12;  // characters; shorter text is no evidence of repetition
constexpr size_t kLongestPeriod = 4;

load::Exchange ask(load::Client& client, load::Request request, const std::atomic<bool>& stop) {
  load::Exchange answer;
  load::run_closed_loop(
      client, {}, [&](int, int) { return request; },
      [&](int, int, load::Exchange&& exchange) { answer = std::move(exchange); }, stop);
  return answer;
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80       ? 1
                          : lead >> 5 == 6  ? 2
                          : lead >> 4 == 14 ? 3
                          : lead >> 3 == 30 ? 4
                                            : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xC0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

// The whole text is one piece of at most kLongestPeriod bytes over and over.
bool is_periodic(std::string_view text) {
  for (size_t period = 1; period <= kLongestPeriod; ++period) {
    bool same = true;
    for (size_t i = period; i < text.size() && same; ++i) same = text[i] == text[i - period];
    if (same) return true;
  }
  return false;
}

}  // namespace

std::string sanity_complaint(std::string_view text) {
  const bool blank = text.find_first_not_of(" \t\r\n") == std::string_view::npos;
  if (blank) return "the answer is empty";
  if (!is_utf8(text)) return "the answer is not valid UTF-8";
  if (text.size() >= kShortestJudged && is_periodic(text))
    return "the answer repeats one piece over and over";
  return {};
}

Attempt<std::string> smoke_gate(load::Client& client, const std::string& model,
                                const std::atomic<bool>& stop) {
  const load::ChatMessage question{"user", kQuestion};
  load::Request request{.path = "/v1/chat/completions",
                        .body = load::chat_body(model, std::span(&question, 1), kAnswerTokens, false),
                        .expected_tokens = kAnswerTokens,
                        .keep_text = true,
                        .timeout = std::chrono::seconds(60)};
  load::Exchange answer = ask(client, request, stop);
  if (answer.status == load::ExchangeStatus::kCancelled) return interrupted();
  if (answer.status != load::ExchangeStatus::kOk) {
    const FailureCause cause = answer.http_code == 401 || answer.http_code == 403 ? FailureCause::kAuth
                               : answer.status == load::ExchangeStatus::kTimedOut ? FailureCause::kHang
                                                                                  : FailureCause::kUnknown;
    return step_failed(
        cause, fmt::format("the smoke question failed: {} {} {}", load::exchange_status_name(answer.status),
                           answer.http_code, answer.error));
  }
  const std::string complaint = sanity_complaint(answer.text);
  if (!complaint.empty()) return step_failed(FailureCause::kQuality, complaint, {answer.text.substr(0, 200)});
  return std::move(answer.text);
}

}  // namespace crible::study
