// One HTTP exchange as the client saw it. Every way in which it can go wrong is a value here: a
// failed exchange is data of the study, not an error of the program.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "load/completion_frame.h"

namespace crible::load {

struct Request {
  std::string path;             // "/v1/completions"
  std::string body;             // JSON with "stream": true
  int64_t expected_tokens = 0;  // room to reserve, so that recording allocates nothing
  bool keep_text = false;       // collect the answer's text
  Clock::duration timeout = std::chrono::seconds(120);  // from the actual send to the end
};

enum class ExchangeStatus {
  kOk,
  kConnectFailed,  // no connection, or lost before any answer
  kHttpError,      // a status other than 200, or not a stream
  kBrokenStream,   // lost, malformed or cut in the middle
  kTimedOut,
  kCancelled,  // by this program
};
const char* exchange_status_name(ExchangeStatus status);

// Stamps are taken right after the read from the socket that brought the frame: several frames of
// one read share a stamp.
struct Exchange {
  TimePoint scheduled;                    // when the workload wanted it sent
  std::optional<TimePoint> sent;          // first byte handed to the socket
  std::optional<TimePoint> first_output;  // first token that is not reasoning
  std::vector<TimePoint> tokens;          // one per frame that carries a token
  TimePoint ended;
  ExchangeStatus status = ExchangeStatus::kOk;
  int http_code = 0;  // 0: no answer came
  std::string error;
  std::string finish_reason;
  std::optional<Usage> usage;
  std::string text;  // only with keep_text
};

}  // namespace crible::load
