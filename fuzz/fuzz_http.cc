// HTTP of any bytes, cut anywhere (the first byte says how): a request through the server's parser to
// the API's requests, a response through the load generator's reader into events.
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/check.h"
#include "fuzz/input_text.h"
#include "load/http_response.h"
#include "wire/chat_request.h"
#include "wire/completion_request.h"
#include "wire/json_text.h"
#include "wire/sse.h"

namespace {

using namespace crible;
namespace http = boost::beast::http;

void read_request(std::string_view text, size_t piece) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(16 << 10);
  parser.body_limit(64 << 10);
  parser.eager(true);
  std::string held;
  for (size_t at = 0; at < text.size() && !parser.is_done();) {
    held += text.substr(at, piece);
    at += piece;
    boost::system::error_code error;
    const size_t taken = parser.put(boost::asio::buffer(held), error);
    CHECK(taken <= held.size());
    held.erase(0, taken);
    if (error == http::error::need_more) continue;
    if (error) return;
  }
  if (!parser.is_done()) return;
  const std::string& body = parser.get().body();
  CHECK(body.size() <= 64 << 10);
  if (const auto document = parse_json(body)) {
    (void)read_completion_request(*document);
    (void)read_chat_request(*document);
  }
}

struct Outcome {
  bool failed = false;
  bool done = false;
  std::string body;
};

Outcome read_response(std::string_view text, size_t piece) {
  load::HttpResponseReader reader;
  Outcome outcome;
  for (size_t at = 0; at < text.size() && !reader.done();) {
    const std::string_view data = text.substr(at, piece);
    std::string_view body;
    const auto taken = reader.advance(data, body);
    if (!taken) {
      outcome.failed = true;
      return outcome;
    }
    CHECK(*taken >= 1 && *taken <= data.size());
    outcome.body += body;
    at += *taken;
  }
  outcome.done = reader.done();
  outcome.failed = !outcome.done && !reader.finish();
  return outcome;
}

std::string read_events(std::string_view text, size_t piece) {
  SseParser parser(4096);
  std::string all;
  for (size_t at = 0; at < text.size(); at += piece) {
    parser.feed(text.substr(at, piece));
    SseEvent event;
    for (;;) {
      const auto found = parser.next(event);
      if (!found) return all + "failed";
      if (!*found) break;
      all += std::string(event.name) + ":" + std::string(event.data) + "\n";
    }
  }
  return all;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t piece = data[0] % 40 + 1;
  const std::string_view text = input_text(data + 1, size - 1);
  if (text.empty()) return 0;
  read_request(text, piece);
  // How a response was cut changes nothing, unless it is broken (then what came before the break may).
  const Outcome cut = read_response(text, piece);
  const Outcome whole = read_response(text, text.size());
  CHECK(cut.failed == whole.failed);
  if (!cut.failed) {
    CHECK(cut.done == whole.done);
    CHECK(cut.body == whole.body);
  }
  CHECK(read_events(text, piece) == read_events(text, text.size()));
  return 0;
}
