// The completion routes over the fake engine: what is streamed equals what is not, and both equal the
// engine's tokens decoded.
#include <gtest/gtest.h>

#include "server/test_client.h"

namespace crible {
namespace {

using nlohmann::json;

// Tokens of a text, in order, then ends of generation.
FakeEngineOptions says(const std::string& text) {
  FakeEngineOptions options;
  options.next_token = [ids = default_text_model().tokenizer->encode(text)](const EngineRequest&, int64_t index) {
    const auto i = static_cast<size_t>(index);
    return i < ids.size() ? ids[i] : default_text_model().end_of_generation.front();
  };
  return options;
}

struct Streamed {
  std::string text, role, finish_reason;
  json usage;
  int text_frames = 0;
  bool done = false;
};

Streamed join(const Response& response, bool chat) {
  Streamed streamed;
  for (const std::string& event : events_of(response.body)) {
    EXPECT_FALSE(streamed.done) << "nothing follows [DONE]";
    if (event == "[DONE]") {
      streamed.done = true;
      continue;
    }
    const json chunk = json::parse(event);
    EXPECT_EQ(chunk["object"], chat ? "chat.completion.chunk" : "text_completion");
    if (chunk.contains("usage") && !chunk["usage"].is_null()) {
      streamed.usage = chunk["usage"];
      EXPECT_TRUE(chunk["choices"].empty());
      continue;
    }
    const json& choice = chunk["choices"][0];
    EXPECT_TRUE(streamed.finish_reason.empty()) << "no text follows the finish reason";
    if (!choice["finish_reason"].is_null()) streamed.finish_reason = choice["finish_reason"];
    const std::string text = chat ? choice["delta"].value("content", "") : choice["text"].get<std::string>();
    if (chat && choice["delta"].contains("role")) {
      EXPECT_TRUE(streamed.text.empty() && streamed.role.empty() && text.empty()) << "the role comes first, alone";
      streamed.role = choice["delta"]["role"];
    }
    streamed.text += text;
    streamed.text_frames += !text.empty();
  }
  return streamed;
}

constexpr const char* kSentence = "Héllo wörld, 你好 🙂🙃 and 12345 tokens\n\twith \"quotes\" \\ and more.";

TEST(Completions, StreamedEqualsWholeEqualsWhatTheEngineSaid) {
  TestServer server({.engine = says(kSentence)});
  for (const bool chat : {false, true}) {
    json body = {{"max_tokens", 200}};
    if (chat) {
      body["messages"] = json::array({{{"role", "user"}, {"content", "Say it."}}});
    } else {
      body["prompt"] = "Say it.";
    }
    const std::string path = chat ? "/v1/chat/completions" : "/v1/completions";
    TestClient client(server.port());
    const Response whole = client.post(path, body);
    ASSERT_EQ(whole.status, 200) << whole.body;
    const json choice = whole.json()["choices"][0];
    EXPECT_EQ(chat ? choice["message"]["content"] : choice["text"], kSentence);
    EXPECT_EQ(choice["finish_reason"], "stop");
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
    const Response streamed_response = client.post(path, body);
    ASSERT_EQ(streamed_response.status, 200);
    const Streamed streamed = join(streamed_response, chat);
    EXPECT_EQ(streamed.text, kSentence);
    EXPECT_EQ(streamed.finish_reason, "stop");
    EXPECT_EQ(streamed.role, chat ? "assistant" : "");
    EXPECT_TRUE(streamed.done);
    const json usage = whole.json()["usage"];
    EXPECT_EQ(streamed.usage["completion_tokens"], usage["completion_tokens"]);
    EXPECT_EQ(streamed.usage["prompt_tokens"], usage["prompt_tokens"]);
    EXPECT_EQ(usage["total_tokens"], usage["prompt_tokens"].get<int>() + usage["completion_tokens"].get<int>());
    const auto tokens = static_cast<int>(default_text_model().tokenizer->encode(kSentence).size());
    EXPECT_EQ(usage["completion_tokens"], tokens + 1) << "the end token counts";
  }
}

TEST(Completions, EveryTokenWithTextIsAFrameOfItsOwn) {
  FakeEngineOptions engine = says("one two three four five six seven eight nine ten");
  engine.per_step = std::chrono::milliseconds(3);
  TestServer server({.engine = engine});
  TestClient client(server.port());
  const Response response = client.post("/v1/completions", {{"prompt", "x"}, {"max_tokens", 100}, {"stream", true}});
  const auto tokens = default_text_model().tokenizer->encode("one two three four five six seven eight nine ten").size();
  EXPECT_EQ(join(response, false).text_frames, static_cast<int>(tokens));
}

TEST(Completions, StopStringsEndTheTextWhereverTheTokensAreCut) {
  TestServer server({.engine = says("The quick brown fox jumps over the lazy dog.")});
  TestClient client(server.port());
  const std::string said = "The quick brown fox jumps over the lazy dog.";
  for (size_t at = 1; at + 3 < said.size(); at += 2) {
    const std::string stop = said.substr(at, 3);
    const size_t found = said.find(stop);
    for (const bool stream : {false, true}) {
      for (const bool include : {false, true}) {
        const Response response = client.post(
            "/v1/completions", {{"prompt", "x"}, {"max_tokens", 100}, {"stop", json::array({"never", stop})},
                                {"stream", stream}, {"include_stop_str_in_output", include}});
        ASSERT_EQ(response.status, 200);
        const std::string wanted = said.substr(0, found + (include ? stop.size() : 0));
        if (stream) {
          EXPECT_EQ(join(response, false).text, wanted);
          EXPECT_EQ(join(response, false).finish_reason, "stop");
        } else {
          EXPECT_EQ(response.json()["choices"][0]["text"], wanted);
          EXPECT_EQ(response.json()["choices"][0]["finish_reason"], "stop");
        }
      }
    }
  }
  EXPECT_TRUE(eventually([&] { return metric(server.port(), "crible:live_completions") == 0; }));
}

TEST(Completions, LengthStopTokensAndIgnoreEos) {
  TestServer server({.engine = says("alpha beta gamma")});
  const auto ids = default_text_model().tokenizer->encode("alpha beta gamma");
  TestClient client(server.port());
  const auto ask = [&](json body) {
    body["prompt"] = "x";
    return client.post("/v1/completions", body).json();
  };
  json reply = ask({{"max_tokens", 1}});
  EXPECT_EQ(reply["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(reply["usage"]["completion_tokens"], 1);
  reply = ask({{"max_tokens", 50}, {"stop_token_ids", json::array({ids.back()})}});
  EXPECT_EQ(reply["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(reply["usage"]["completion_tokens"], ids.size());
  // The model's own end is passed over; a stop token that the caller names is not.
  reply = ask({{"max_tokens", 50}, {"ignore_eos", true}});
  EXPECT_EQ(reply["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(reply["usage"]["completion_tokens"], 50);
  reply = ask({{"max_tokens", 50}, {"ignore_eos", true}, {"stop_token_ids", json::array({ids.back()})}});
  EXPECT_EQ(reply["choices"][0]["finish_reason"], "stop");
  // OpenAI's default for this route.
  reply = ask({{"ignore_eos", true}});
  EXPECT_EQ(reply["usage"]["completion_tokens"], 16);
}

TEST(Completions, TextCutInsideACharacterStaysValid) {
  TestServer server({.engine = says("🙂")});
  const auto ids = default_text_model().tokenizer->encode("🙂");
  ASSERT_GT(ids.size(), 1u) << "the test needs a character of several tokens";
  TestClient client(server.port());
  const json reply = client.post("/v1/completions", {{"prompt", "x"}, {"max_tokens", ids.size() - 1}}).json();
  EXPECT_EQ(reply["choices"][0]["text"], "\xEF\xBF\xBD");
}

TEST(Completions, ManyPromptsAreManyChoices) {
  TestServer server;
  TestClient client(server.port());
  const json prompts = json::array({"first prompt", "second", "the third one", "second"});
  json body = {{"prompt", prompts}, {"max_tokens", 12}, {"temperature", 0}};
  const json whole = client.post("/v1/completions", body).json();
  ASSERT_EQ(whole["choices"].size(), 4u);
  EXPECT_EQ(whole["usage"]["completion_tokens"], 48);
  EXPECT_EQ(whole["choices"][1]["text"], whole["choices"][3]["text"]);
  EXPECT_NE(whole["choices"][0]["text"], whole["choices"][1]["text"]);
  body["stream"] = true;
  std::vector<std::string> texts(4);
  for (const std::string& event : events_of(client.post("/v1/completions", body).body)) {
    if (event == "[DONE]") continue;
    const json chunk = json::parse(event);
    const json& choice = chunk["choices"][0];
    texts[choice["index"].get<size_t>()] += choice["text"].get<std::string>();
  }
  for (size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(texts[i], whole["choices"][i]["text"]);
  // Token ids, one list and several.
  EXPECT_EQ(client.post("/v1/completions", {{"prompt", {100, 200, 300}}, {"temperature", 0}}).json()["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(client.post("/v1/completions", {{"prompt", {{100, 200}, {300}}}, {"temperature", 0}}).json()["choices"].size(), 2u);
}

TEST(Completions, CachedTokensShowAndSaltsKeepApart) {
  TestServer server;
  TestClient client(server.port());
  json body = {{"prompt", json::array()}, {"max_tokens", 2}, {"cache_salt", "a"}};
  for (int i = 0; i < 100; ++i) body["prompt"].push_back(1000 + i);
  const auto cached = [&] {
    return client.post("/v1/completions", body).json()["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
  };
  EXPECT_EQ(cached(), 0);
  EXPECT_EQ(cached(), 96);
  body["cache_salt"] = "b";
  EXPECT_EQ(cached(), 0);
  EXPECT_EQ(client.request("POST", "/admin/reset_prefix_cache").status, 200);
  EXPECT_EQ(cached(), 0);
}

TEST(Completions, AnEngineFaultFailsItsRequestAlone) {
  FakeEngineOptions engine;
  engine.next_token = [](const EngineRequest& request, int64_t index) -> TokenId {
    return request.prompt.front() == 666 && index == 3 ? -1 : 1000 + static_cast<TokenId>(index);
  };
  engine.per_step = std::chrono::milliseconds(1);
  TestServer server({.engine = engine});
  TestClient bad(server.port()), good(server.port());
  good.send_request("POST", "/v1/completions", json{{"prompt", {5}}, {"max_tokens", 30}}.dump());
  const Response failed = bad.post("/v1/completions", {{"prompt", {666}}, {"max_tokens", 30}});
  EXPECT_EQ(failed.status, 500);
  EXPECT_NE(failed.error_message(), "");
  // Once text has left, the stream ends with the error and without [DONE].
  const Response broken = bad.post("/v1/completions", {{"prompt", {666}}, {"max_tokens", 30}, {"stream", true}});
  EXPECT_EQ(broken.status, 200);
  EXPECT_TRUE(json::parse(events_of(broken.body).back()).contains("error"));
  EXPECT_EQ(good.read_response().status, 200);
}

TEST(Completions, AClientThatGoesAwayFreesItsSequence) {
  FakeEngineOptions engine;
  engine.per_step = std::chrono::milliseconds(1);
  TestServer server({.engine = engine});
  const auto running = [&] { return server.engine->stats().running + server.engine->stats().waiting; };
  for (const bool stream : {true, false}) {
    for (const bool reset : {true, false}) {
      TestClient client(server.port());
      client.send_request("POST", "/v1/completions",
                          json{{"prompt", "x"}, {"max_tokens", 8000}, {"stream", stream}, {"ignore_eos", true}}.dump());
      if (stream) {
        EXPECT_NE(client.read_some(), "");
      }
      ASSERT_TRUE(eventually([&] { return running() == 1; }));
      reset ? client.reset() : client.close();
      EXPECT_TRUE(eventually([&] { return running() == 0; })) << stream << reset;
    }
  }
  EXPECT_TRUE(eventually([&] { return metric(server.port(), "crible:live_completions") == 0; }));
  EXPECT_EQ(metric(server.port(), "vllm:request_success_total", "finished_reason=\"abort\""), 4);
}

TEST(Completions, ThousandsOfQuickRequestsAndDisconnectsLeaveNothingBehind) {
  FakeEngineOptions engine;
  engine.config.max_num_seqs = 64;
  TestServer server({.engine = engine});
  constexpr int kThreads = 4, kRounds = 500;
  std::vector<std::thread> clients;
  for (int t = 0; t < kThreads; ++t) {
    clients.emplace_back([&, t] {
      for (int i = 0; i < kRounds; ++i) {
        TestClient client(server.port());
        const json body = {{"prompt", {100 + t, 200 + i}}, {"max_tokens", i % 3 == 0 ? 4 : 1500},
                           {"stream", i % 2 == 0}, {"ignore_eos", true}};
        client.send_request("POST", "/v1/completions", body.dump());
        if (i % 3 == 0) {
          EXPECT_EQ(client.read_response().status, 200);
        } else if (i % 3 == 1) {
          client.reset();
        }  // else closed at once
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(eventually([&] { return metric(server.port(), "crible:live_completions") == 0; }));
  EXPECT_TRUE(eventually([&] { return metric(server.port(), "crible:open_connections") == 1; }));
  const EngineStats stats = server.engine->stats();
  EXPECT_EQ(stats.running + stats.waiting, 0);
  EXPECT_EQ(stats.kv_blocks_used, 0);
}

TEST(Completions, ASlowReaderHoldsUpNobodyAndLosesNothing) {
  FakeEngineOptions engine;
  engine.config.max_num_seqs = 8;
  TestServer server({.engine = engine});
  TestClient slow(server.port());
  slow.socket().set_option(boost::asio::socket_base::receive_buffer_size(4096));
  const json body = {{"prompt", {7}}, {"max_tokens", 8000}, {"stream", true}, {"ignore_eos", true}, {"temperature", 0}};
  slow.send_request("POST", "/v1/completions", body.dump());
  TestClient quick(server.port());
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(quick.post("/v1/completions", {{"prompt", {8, i}}, {"max_tokens", 20}}).status, 200);
  }
  ASSERT_TRUE(eventually([&] { return server.engine->stats().running == 0; }));
  const Streamed late = join(slow.read_response(), false);
  EXPECT_TRUE(late.done);
  json whole = body;
  whole["stream"] = false;
  EXPECT_EQ(late.text, quick.post("/v1/completions", whole).json()["choices"][0]["text"]);
}

}  // namespace
}  // namespace crible
