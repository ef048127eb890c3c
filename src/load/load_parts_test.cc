// The generator's parts, each against its definition.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <set>

#include "load/arrival.h"
#include "load/completion_frame.h"
#include "load/http_call.h"
#include "load/http_response.h"
#include "load/json_cursor.h"
#include "load/prompt.h"
#include "load/scripted_server.h"
#include "load/validity.h"
#include "load/words.h"

namespace crible::load {
namespace {

using nlohmann::json;

TEST(Endpoint, UrlsBothWays) {
  for (const std::string url :
       {"http://127.0.0.1:8000", "http://host:1", "http://[::1]:80/base", "http://a:65535/x/y"}) {
    const auto endpoint = parse_endpoint(url);
    ASSERT_TRUE(endpoint) << endpoint.error().message;
    EXPECT_EQ(to_url(*endpoint), url);
  }
  EXPECT_EQ(parse_endpoint("http://h")->port, 80);
  EXPECT_EQ(parse_endpoint("http://h:9/v/")->base_path, "/v");
  for (const std::string url :
       {"", "h:1", "https://h", "http://", "http://h:0", "http://h:70000", "http://h:x", "http://[::1"}) {
    EXPECT_FALSE(parse_endpoint(url)) << url;
  }
}

TEST(CompletionFrame, AgreesWithADocumentParserOnRandomFrames) {
  std::mt19937 random(1);
  const auto pick = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const std::vector<std::string> texts = {"", "a", "é", "\"q\"", "a\\b", "line\nbreak", "😀", "\x01", "日本"};
  for (int i = 0; i < 3000; ++i) {
    json choice = {{"index", 0}};
    std::string text;
    bool token = false, output = false;
    const std::string piece = texts[static_cast<size_t>(pick(static_cast<int>(texts.size())))];
    switch (pick(5)) {
      case 0:
        choice["text"] = piece;
        text = piece;
        token = output = !piece.empty();
        break;
      case 1:
        choice["delta"] = {{"role", "assistant"}, {"content", piece}};
        text = piece;
        token = output = !piece.empty();
        break;
      case 2:
        choice["delta"] = {{pick(2) ? "reasoning" : "reasoning_content", piece}};
        token = !piece.empty();
        break;
      case 3:
        choice["delta"] = {{"content", nullptr},
                           {"tool_calls", {{{"index", 0}, {"function", {{"arguments", piece}}}}}}};
        token = output = true;
        break;
      default:
        choice["delta"] = json::object();
        choice["logprobs"] = {{"x", {1, -2.5e3, true, nullptr, {{"y", "z"}}}}};
    }
    const std::string reason = pick(3) == 0 ? "stop" : "";
    if (!reason.empty())
      choice["finish_reason"] = reason;
    else
      choice["finish_reason"] = nullptr;
    json frame = {{"id", "x"}, {"choices", {choice}}, {"created", 1}};
    std::optional<Usage> usage;
    if (pick(2)) {
      usage = Usage{pick(1000), pick(1000), std::nullopt};
      frame["usage"] = {{"prompt_tokens", usage->prompt_tokens}, {"completion_tokens", usage->output_tokens}};
      if (pick(2)) {
        usage->cached_tokens = pick(1000);
        frame["usage"]["prompt_tokens_details"] = {{"cached_tokens", *usage->cached_tokens}};
      }
    }
    const std::string wire = frame.dump(pick(2) ? -1 : 1, ' ', pick(2) == 0);
    std::string seen;
    const auto read = read_completion_frame(wire, &seen);
    ASSERT_TRUE(read) << wire;
    EXPECT_EQ(seen, text) << wire;
    EXPECT_EQ(read->has_token, token) << wire;
    EXPECT_EQ(read->has_output, output) << wire;
    EXPECT_EQ(read->finish_reason, reason) << wire;
    EXPECT_EQ(read->usage, usage) << wire;
    // Every cut of a document is no document.
    EXPECT_FALSE(read_completion_frame(
        wire.substr(0, static_cast<size_t>(pick(static_cast<int>(wire.size())))), nullptr));
  }
}

TEST(JsonCursor, AcceptsExactlyWhatADocumentParserAccepts) {
  std::mt19937 random(2);
  const std::string letters = "{}[]\",:0123456789.eE+-truefalsn \\u\n\x01";
  const std::vector<std::string> seeds = {R"({"a":[1,2.5,-0,1e5,true,false,null,"x\u00e9\n"]})",
                                          R"([[],{},"",0])", "-1.5E-3", "\"a\""};
  for (int i = 0; i < 20000; ++i) {
    std::string text = seeds[random() % seeds.size()];
    for (unsigned k = random() % 3; k > 0 && !text.empty(); --k) {
      const size_t at = random() % text.size();
      if (random() % 2)
        text[at] = letters[random() % letters.size()];
      else
        text.erase(at, 1);
    }
    JsonCursor cursor(text);
    cursor.skip_value();
    const bool accepted = cursor.ok() && cursor.at_end();
    // Lone surrogates are the one difference: the cursor lets them pass and replaces them.
    if (text.find("\\u") != std::string::npos) continue;
    EXPECT_EQ(accepted, json::accept(text)) << text;
  }
}

TEST(JsonCursor, DepthIsLimited) {
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  JsonCursor cursor(deep);
  cursor.skip_value();
  EXPECT_FALSE(cursor.ok());
}

TEST(ErrorMessage, OpenAiShapeOrTheBeginning) {
  EXPECT_EQ(error_message(R"({"error":{"message":"no \"x\"","code":null}})"), "no \"x\"");
  EXPECT_EQ(error_message(R"({"error":"flat"})"), "flat");
  EXPECT_EQ(error_message("<html>"), "<html>");
  EXPECT_EQ(error_message(""), "");
}

TEST(Arrivals, ConstantRateIsExact) {
  const auto offsets = constant_arrivals(250, 1000);
  for (size_t i = 0; i < offsets.size(); ++i)
    EXPECT_EQ(offsets[i].count(), static_cast<int64_t>(i) * 4'000'000);
}

TEST(Arrivals, PoissonHasTheRateAndTheSpreadOfOne) {
  constexpr int kCount = 20000;
  const auto offsets = poisson_arrivals(50, kCount, 7);
  EXPECT_TRUE(std::is_sorted(offsets.begin(), offsets.end()));
  EXPECT_EQ(offsets[0].count(), 0);
  std::vector<double> gaps;
  for (size_t i = 1; i < offsets.size(); ++i)
    gaps.push_back(static_cast<double>((offsets[i] - offsets[i - 1]).count()) * 1e-9);
  const double mean = std::accumulate(gaps.begin(), gaps.end(), 0.0) / double(gaps.size());
  double variance = 0;
  for (const double gap : gaps) variance += (gap - mean) * (gap - mean);
  variance /= double(gaps.size() - 1);
  // Standard errors: mean 1/(rate sqrt n) = 0.7%; standard deviation about 1% (kurtosis 9). Five of them.
  EXPECT_NEAR(mean, 1.0 / 50, 0.035 / 50);
  EXPECT_NEAR(std::sqrt(variance), 1.0 / 50, 0.05 / 50);
  // Memoryless: P(gap > mean) = 1/e.
  const auto longer = std::ranges::count_if(gaps, [&](double gap) { return gap > 1.0 / 50; });
  EXPECT_NEAR(double(longer) / kCount, std::exp(-1.0), 5 * std::sqrt(0.25 / kCount));
  EXPECT_EQ(offsets, poisson_arrivals(50, kCount, 7));
  EXPECT_NE(offsets, poisson_arrivals(50, kCount, 8));
}

TEST(Words, DistinctLowerCase) {
  std::set<std::string_view> seen;
  for (const auto word : english_words()) {
    EXPECT_TRUE(seen.insert(word).second) << word;
    EXPECT_EQ(word.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), std::string_view::npos) << word;
  }
}

TEST(Prompts, OnlySingleTokenWordsAreKept) {
  // This server's tokenizer cuts words of more than five letters in two.
  auto server = ScriptedServer::start([](const ReceivedRequest& r, ScriptedConnection& c) {
                  json tokens = json::array();
                  std::string word;
                  for (const char letter : json::parse(r.body)["prompt"].get<std::string>() + " ") {
                    if (letter != ' ') {
                      word += letter;
                      continue;
                    }
                    if (!word.empty()) tokens.push_back(1000 + word.size());
                    if (word.size() > 5) tokens.push_back(1);
                    word.clear();
                  }
                  c.reply(200, json{{"tokens", tokens}}.dump());
                }).value();
  HttpCaller caller(server->endpoint());
  const auto pool = learn_word_pool(caller, "m");
  ASSERT_TRUE(pool) << pool.error().message;
  size_t expected = 0;
  for (const auto word : english_words()) expected += word.size() <= 5;
  ASSERT_EQ(pool->words.size(), expected);
  for (size_t i = 0; i < expected; ++i) EXPECT_EQ(pool->ids[i], TokenId(1000 + pool->words[i].size()));

  PromptMaker a(*pool, 1), again(*pool, 1), b(*pool, 2);
  const auto tokens = a.tokens(500);
  EXPECT_EQ(tokens.size(), 500u);
  EXPECT_EQ(tokens, again.tokens(500));
  EXPECT_NE(tokens, b.tokens(500));
  EXPECT_NE(tokens, a.tokens(500)) << "a maker never repeats itself";
  const std::string text = a.text(40);
  EXPECT_EQ(std::ranges::count(text, ' '), 40);
}

TEST(Prompts, ServersThatCannotTokenizeAreNamed) {
  auto server = ScriptedServer::start([](const auto&, auto& c) {
                  c.reply(404, R"({"error":{"message":"no such route"}})");
                }).value();
  HttpCaller caller(server->endpoint());
  const auto pool = learn_word_pool(caller, "m");
  ASSERT_FALSE(pool);
  EXPECT_EQ(pool.error().code, ErrorCode::kUnsupported);
}

TEST(Prompts, BodiesAskForStreamedGreedyExactAnswers) {
  const std::vector<TokenId> prompt = {1, 2, 3};
  const json body = json::parse(completion_body("m", prompt, 9, true));
  EXPECT_EQ(body["prompt"], (json{1, 2, 3}));
  EXPECT_EQ(body["max_tokens"], 9);
  EXPECT_EQ(body["temperature"], 0);
  EXPECT_TRUE(body["stream"]);
  EXPECT_TRUE(body["ignore_eos"]);
  EXPECT_TRUE(body["stream_options"]["include_usage"]);
  const ChatMessage message{"user", "say \"é\"\n"};
  const json chat = json::parse(chat_body("m", std::span(&message, 1), 9, false));
  EXPECT_EQ(chat["messages"][0]["content"], message.content);
  EXPECT_FALSE(chat.contains("ignore_eos"));
}

TEST(HttpCaller, RepliesDeadlinesAndStaleConnections) {
  std::atomic<bool> hang{false};
  auto server = ScriptedServer::start([&](const ReceivedRequest& r, ScriptedConnection& c) {
                  if (hang) {
                    std::this_thread::sleep_for(std::chrono::milliseconds(300));
                    return c.close();
                  }
                  if (r.on_connection == 1) return c.close();
                  c.reply(r.path == "/bad" ? 503 : 200, r.method + r.body);
                }).value();
  HttpCaller caller(server->endpoint());
  using std::chrono::milliseconds;
  EXPECT_EQ(caller.get("/", milliseconds(5000))->body, "GET");
  EXPECT_EQ(caller.call("POST", "/", "x", milliseconds(5000))->body, "POSTx") << "after a stale connection";
  EXPECT_EQ(caller.get("/bad", milliseconds(5000))->code, 503);
  hang = true;
  const auto late = caller.get("/", milliseconds(50));
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kDeadlineExceeded);
}

// A run in which everything went as asked, for one thing at a time to be spoiled.
struct GoodRun {
  std::vector<Exchange> exchanges;
  RunFacts facts;

  explicit GoodRun(int count = 10) {
    const TimePoint start = now();
    for (int i = 0; i < count; ++i) {
      Exchange e;
      e.scheduled = start + std::chrono::milliseconds(100 * i);
      e.sent = e.scheduled + std::chrono::microseconds(200);
      e.ended = e.scheduled + std::chrono::milliseconds(90);
      e.tokens.assign(4, e.scheduled + std::chrono::milliseconds(50));
      e.http_code = 200;
      e.usage = Usage{20, 4, 0};
      exchanges.push_back(std::move(e));
    }
    facts.planned = count;
    facts.steady = std::chrono::seconds(1);
    facts.wall = std::chrono::seconds(1);
  }

  Judgement judged() {
    facts.exchanges.clear();
    for (const Exchange& e : exchanges) facts.exchanges.push_back({&e, 20, 4, expectation});
    return judge(facts, {});
  }
  CacheExpectation expectation = CacheExpectation::kNone;
};

void expect_only(const Judgement& judgement, FindingKind kind) {
  ASSERT_EQ(judgement.findings.size(), 1u);
  EXPECT_EQ(judgement.findings[0].kind, kind)
      << finding_name(judgement.findings[0].kind) << judgement.findings[0].detail;
  EXPECT_EQ(judgement.valid, !spoils(kind));
}

TEST(Validity, AGoodRunHasNothingToSay) {
  GoodRun run;
  EXPECT_TRUE(run.judged().findings.empty());
  run.expectation = CacheExpectation::kMiss;
  EXPECT_TRUE(run.judged().findings.empty());
}

TEST(Validity, EachRuleAlone) {
  {
    GoodRun r;
    r.facts.wall = std::chrono::seconds(3);
    expect_only(r.judged(), FindingKind::kClocksDisagree);
  }
  {
    GoodRun r;
    r.facts.planned = 11;
    expect_only(r.judged(), FindingKind::kNotDelivered);
  }
  {
    GoodRun r;
    r.exchanges[3].status = ExchangeStatus::kCancelled;
    expect_only(r.judged(), FindingKind::kNotDelivered);
  }
  {
    GoodRun r;
    for (auto& e : r.exchanges) e.sent = e.scheduled + std::chrono::milliseconds(30);
    expect_only(r.judged(), FindingKind::kClientLag);
  }
  {
    GoodRun r;
    r.exchanges[0].status = ExchangeStatus::kHttpError;
    r.exchanges[0].http_code = 400;
    expect_only(r.judged(), FindingKind::kRefused);
  }
  {
    GoodRun r;
    r.exchanges[0].usage->prompt_tokens = 21;
    expect_only(r.judged(), FindingKind::kPromptLength);
  }
  {
    GoodRun r;
    r.exchanges[0].usage->output_tokens = 3;
    expect_only(r.judged(), FindingKind::kOutputLength);
  }
  {
    GoodRun r;
    r.exchanges[0].usage.reset();
    expect_only(r.judged(), FindingKind::kUsageMissing);
  }
  {
    GoodRun r;
    r.expectation = CacheExpectation::kMiss;
    r.exchanges[0].usage->cached_tokens = 16;
    expect_only(r.judged(), FindingKind::kMissWasCached);
  }
  {
    GoodRun r;
    r.expectation = CacheExpectation::kHit;
    expect_only(r.judged(), FindingKind::kHitNotConfirmed);
  }
  {
    GoodRun r;
    r.exchanges[0].status = ExchangeStatus::kTimedOut;
    expect_only(r.judged(), FindingKind::kServerErrors);
  }
  {
    GoodRun r;
    r.exchanges[0].status = ExchangeStatus::kHttpError;
    r.exchanges[0].http_code = 429;
    expect_only(r.judged(), FindingKind::kServerErrors);
  }
  {
    GoodRun r;
    r.exchanges[0].tokens.pop_back();
    expect_only(r.judged(), FindingKind::kFramesMerged);
  }
}

TEST(Validity, OneLateRequestIsNoLag) {
  GoodRun run(100);
  run.exchanges[5].sent = run.exchanges[5].scheduled + std::chrono::milliseconds(80);
  EXPECT_TRUE(run.judged().findings.empty());
}

}  // namespace
}  // namespace crible::load
