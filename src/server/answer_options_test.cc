// What a request can ask of its answers beside text: several of them, log-probabilities, ids, the prompt's echo.
// Over the fake engine, whose tokens and log-probabilities are known.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>

#include "server/test_client.h"

namespace crible {
namespace {

using nlohmann::json;

constexpr const char* kSentence = "Héllo 你好 🙂🙃, \"quoted\" \\ and\n\tmore.";

FakeEngineOptions says(const std::string& text) {
  FakeEngineOptions options;
  options.next_token = [ids = default_text_model().tokenizer->encode(text)](const EngineRequest&, int64_t index) {
    const auto i = static_cast<size_t>(index);
    return i < ids.size() ? ids[i] : default_text_model().end_of_generation.front();
  };
  return options;
}

const char* path_of(bool chat) { return chat ? "/v1/chat/completions" : "/v1/completions"; }

json ask(bool chat, json fields) {
  if (chat) {
    fields["messages"] = json::array({{{"role", "user"}, {"content", "Say it."}}});
  } else if (!fields.contains("prompt")) {
    fields["prompt"] = "Say it.";
  }
  return fields;
}

// The chunks of a stream put together as the reply that is not streamed.
json joined(const std::string& body, bool chat) {
  std::map<int, json> choices;
  json usage;
  bool done = false;
  for (const std::string& event : events_of(body)) {
    EXPECT_FALSE(done);
    done = event == "[DONE]";
    if (done) continue;
    const json chunk = json::parse(event);
    if (chunk.contains("usage") && !chunk["usage"].is_null()) {
      EXPECT_TRUE(usage.is_null()) << "one usage for all";
      usage = chunk["usage"];
      EXPECT_TRUE(chunk["choices"].empty());
      continue;
    }
    EXPECT_EQ(chunk["choices"].size(), 1u);
    const json& part = chunk["choices"][0];
    json& choice = choices.try_emplace(part["index"].get<int>(), json::object()).first->second;
    EXPECT_FALSE(choice.contains("finish_reason")) << "nothing follows the end of a choice";
    if (!part["finish_reason"].is_null()) choice["finish_reason"] = part["finish_reason"];
    const std::string text = chat ? part["delta"].value("content", "") : part["text"].get<std::string>();
    choice["text"] = choice.value("text", "") + text;
    for (const char* name : {"token_ids", "prompt_token_ids"}) {
      const json& ids = part.contains(name) ? part[name] : chunk.contains(name) ? chunk[name] : json::array();
      for (const json& id : ids) choice[name].push_back(id);
    }
    if (part["logprobs"].is_null()) continue;
    for (const auto& [name, values] : part["logprobs"].items()) {
      if (!values.is_array()) continue;
      for (const json& value : values) choice["logprobs"][name].push_back(value);
    }
  }
  EXPECT_TRUE(done);
  json reply = {{"choices", json::array()}, {"usage", usage}};
  for (auto& [index, choice] : choices) {
    EXPECT_EQ(index, static_cast<int>(reply["choices"].size()));
    reply["choices"].push_back(choice);
  }
  return reply;
}

// The same from a whole reply.
json flattened(const json& whole, bool chat) {
  json reply = {{"choices", json::array()}, {"usage", whole["usage"]}};
  for (const json& choice : whole["choices"]) {
    json flat = {{"text", chat ? choice["message"]["content"] : choice["text"]}, {"finish_reason", choice["finish_reason"]}};
    for (const char* name : {"token_ids", "prompt_token_ids"}) {
      if (choice.contains(name)) flat[name] = choice[name];
      if (whole.contains(name)) flat[name] = whole[name];
    }
    if (!choice["logprobs"].is_null()) {
      flat["logprobs"] = choice["logprobs"];
      flat["logprobs"].erase("refusal");
    }
    reply["choices"].push_back(flat);
  }
  return reply;
}

std::vector<std::string> characters_of(const std::string& text) {
  std::vector<std::string> characters;
  for (const char byte : text) {
    if ((static_cast<unsigned char>(byte) & 0xC0) != 0x80) characters.emplace_back();
    characters.back() += byte;
  }
  return characters;
}

TEST(AnswerOptions, StreamedEqualsWholeWithEverythingAskedFor) {
  TestServer server({.engine = says(kSentence)});
  TestClient client(server.port());
  for (const bool chat : {false, true}) {
    for (const int n : {1, 3}) {
      json fields = {{"max_tokens", 60}, {"n", n}, {"return_token_ids", true}};
      if (chat) {
        fields.update(json{{"logprobs", true}, {"top_logprobs", 2}});
      } else {
        fields.update(json{{"logprobs", 2}, {"echo", true}});
      }
      const json body = ask(chat, fields);
      const Response whole = client.post(path_of(chat), body);
      ASSERT_EQ(whole.status, 200) << whole.body;
      ASSERT_EQ(whole.json()["choices"].size(), static_cast<size_t>(n));
      json streamed_body = body;
      streamed_body.update(json{{"stream", true}, {"stream_options", {{"include_usage", true}}}});
      json streamed = joined(client.post(path_of(chat), streamed_body).body, chat);
      json expected = flattened(whole.json(), chat);
      // The second request finds the first one's prompt in the cache.
      for (json* reply : {&streamed, &expected}) (*reply)["usage"].erase("prompt_tokens_details");
      EXPECT_EQ(streamed.dump(), expected.dump());
      EXPECT_EQ(expected["usage"]["completion_tokens"], n * static_cast<int>(expected["choices"][0]["token_ids"].size()));
    }
  }
}

TEST(AnswerOptions, OffsetsCutTheTextIntoItsTokens) {
  TestServer server({.engine = says(kSentence)});
  TestClient client(server.port());
  for (const bool echo : {false, true}) {
    const json choice =
        client.post("/v1/completions", {{"prompt", "Ünd 🙃?"}, {"max_tokens", 60}, {"logprobs", 0}, {"echo", echo}}).json()["choices"][0];
    const std::string text = choice["text"];
    EXPECT_EQ(text, (echo ? "Ünd 🙃?" : "") + std::string(kSentence));
    const std::vector<std::string> characters = characters_of(text);
    const json& offsets = choice["logprobs"]["text_offset"];
    const json& tokens = choice["logprobs"]["tokens"];
    ASSERT_EQ(offsets.size(), tokens.size());
    bool partial = false;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const size_t begin = offsets[i], end = i + 1 < tokens.size() ? offsets[i + 1].get<size_t>() : characters.size();
      std::string piece;
      for (size_t c = begin; c < end; ++c) piece += characters[c];
      const std::string token = tokens[i];
      if (token.starts_with("bytes:")) {
        partial = true;
      } else if (i + 1 < tokens.size()) {  // the last is the end token, which is no text
        EXPECT_EQ(piece, token);
      }
    }
    EXPECT_TRUE(partial) << "the text has characters of several tokens";
    EXPECT_EQ(choice["logprobs"]["token_logprobs"][0].is_null(), echo) << "nothing precedes a prompt's first token";
  }
}

TEST(AnswerOptions, LogprobsAreTheEnginesWithBytes) {
  TestServer server({.engine = says("🙂")});
  TestClient client(server.port());
  const auto& tokenizer = *default_text_model().tokenizer;
  const auto ids = tokenizer.encode("🙂");
  const json reply = client.post(path_of(true), ask(true, {{"logprobs", true}, {"top_logprobs", 3}, {"max_tokens", 20}})).json();
  const json& content = reply["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(content.size(), ids.size() + 1) << "the end token is one of the answer's";
  std::string bytes;
  for (size_t i = 0; i < ids.size(); ++i) {
    const int rank = 1 + ids[i] % 3;  // as the fake engine makes it up
    EXPECT_EQ(content[i]["logprob"], -0.25 * rank);
    ASSERT_EQ(content[i]["top_logprobs"].size(), 3u);
    EXPECT_EQ(content[i]["top_logprobs"][static_cast<size_t>(rank) - 1]["token"], content[i]["token"]);
    std::string own;
    for (const json& byte : content[i]["bytes"]) own += static_cast<char>(byte.get<int>());
    EXPECT_EQ(own, tokenizer.token_bytes(ids[i]));
    bytes += own;
  }
  EXPECT_EQ(bytes, "🙂");
  // Every token is sent with its logprobs, also the one that is only a part of a character.
  const json body = ask(true, {{"logprobs", true}, {"max_tokens", 20}, {"stream", true}});
  size_t frames = 0;
  for (const std::string& event : events_of(client.post(path_of(true), body).body)) {
    frames += event != "[DONE]" && !json::parse(event)["choices"][0]["logprobs"].is_null();
  }
  EXPECT_GE(frames, 1u);
}

TEST(AnswerOptions, APromptIsScoredWithoutAnAnswer) {
  TestServer server;
  TestClient client(server.port());
  const std::vector<TokenId> prompt = {100, 201, 302, 403};
  const json reply = client.post("/v1/completions", {{"prompt", prompt}, {"max_tokens", 0}, {"echo", true}, {"logprobs", 1}}).json();
  const json& choice = reply["choices"][0];
  EXPECT_EQ(choice["text"], default_text_model().tokenizer->decode(prompt, false));
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_EQ(choice["logprobs"]["token_logprobs"], json::parse("[null,-0.25,-0.75,-0.5]"));
  EXPECT_EQ(reply["usage"]["completion_tokens"], 0);
  EXPECT_EQ(reply["usage"]["prompt_tokens"], 4);
}

TEST(AnswerOptions, PromptLogprobsComeInVllmsForm) {
  TestServer server;
  TestClient client(server.port());
  const json body = {{"prompt", {100, 201, 302}}, {"max_tokens", 2}, {"prompt_logprobs", 1}, {"n", 2}};
  for (int round = 0; round < 2; ++round) {
    const json reply = client.post("/v1/completions", body).json();
    ASSERT_EQ(reply["choices"].size(), 2u);
    for (const json& choice : reply["choices"]) {
      const json& scores = choice["prompt_logprobs"];
      ASSERT_EQ(scores.size(), 3u);
      EXPECT_TRUE(scores[0].is_null());
      EXPECT_EQ(scores[1]["201"]["logprob"], -0.25);
      EXPECT_EQ(scores[1]["201"]["rank"], 1);
      EXPECT_EQ(scores[2].size(), 2u);
      EXPECT_EQ(scores[2]["302"]["rank"], 3);
    }
    EXPECT_EQ(reply["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
  }
  const json chat = client.post(path_of(true), ask(true, {{"prompt_logprobs", 0}, {"max_tokens", 1}})).json();
  EXPECT_EQ(chat["prompt_logprobs"].size(), chat["usage"]["prompt_tokens"].get<size_t>());
}

TEST(AnswerOptions, AnswersDifferAndTheirTokensAdd) {
  TestServer server;
  TestClient client(server.port());
  const json body = {{"prompt", json::array({"one", "two"})}, {"n", 3}, {"max_tokens", 8}, {"seed", 5}};
  const json reply = client.post("/v1/completions", body).json();
  ASSERT_EQ(reply["choices"].size(), 6u);
  std::set<std::string> texts;
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(reply["choices"][i]["index"], i);
    texts.insert(reply["choices"][i]["text"]);
  }
  EXPECT_EQ(texts.size(), 6u);
  EXPECT_EQ(reply["usage"]["completion_tokens"], 48);
  const json single = client.post("/v1/completions", {{"prompt", "two"}, {"max_tokens", 8}, {"seed", 5}}).json();
  EXPECT_EQ(single["choices"][0]["text"], reply["choices"][3]["text"]) << "the first answer is that of a request for one";
  const json one = client.post("/v1/completions", {{"prompt", json::array({"one", "two"})}, {"max_tokens", 8}}).json();
  EXPECT_EQ(one["usage"]["prompt_tokens"], reply["usage"]["prompt_tokens"]) << "a prompt counts once";
}

TEST(AnswerOptions, TheBestAnswersAreThoseOfHighestLogprob) {
  TestServer server;
  TestClient client(server.port());
  json body = {{"prompt", "x"}, {"max_tokens", 6}, {"seed", 9}, {"n", 8}, {"logprobs", 0}};
  const json all = client.post("/v1/completions", body).json();
  std::vector<std::pair<double, std::string>> ranked;
  for (const json& choice : all["choices"]) {
    double sum = 0;
    for (const json& logprob : choice["logprobs"]["token_logprobs"]) sum += logprob.get<double>();
    ranked.emplace_back(-sum, choice["text"]);
  }
  std::stable_sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  body.update(json{{"n", 3}, {"best_of", 8}});
  for (const bool with_logprobs : {true, false}) {
    if (!with_logprobs) body.erase("logprobs");
    const json best = client.post("/v1/completions", body).json();
    ASSERT_EQ(best["choices"].size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(best["choices"][i]["text"], ranked[i].second);
      EXPECT_EQ(best["choices"][i]["index"], i);
      EXPECT_EQ(best["choices"][i]["logprobs"].is_null(), !with_logprobs);
    }
    EXPECT_EQ(best["usage"]["completion_tokens"], 48) << "what was generated counts, sent or not";
  }
}

TEST(AnswerOptions, StopStringsWaitForMinTokens) {
  TestServer server({.engine = says("one two one two one two")});
  TestClient client(server.port());
  const auto text_with = [&](int min_tokens) {
    return client.post("/v1/completions", {{"prompt", "x"}, {"max_tokens", 30}, {"stop", " two"}, {"min_tokens", min_tokens}})
        .json()["choices"][0]["text"].get<std::string>();
  };
  EXPECT_EQ(text_with(0), "one");
  EXPECT_EQ(text_with(2), "one");  // the second token completes it
  EXPECT_EQ(text_with(3), "one two one");
  EXPECT_EQ(text_with(5), "one two one two one");
}

TEST(AnswerOptions, TheEngineGetsWhatWasAskedFor) {
  std::mutex mutex;
  SamplingParams got;
  FakeEngineOptions engine;
  engine.next_token = [&](const EngineRequest& request, int64_t) {
    std::lock_guard lock(mutex);
    got = request.sampling;
    EXPECT_EQ(request.priority, -4);
    return 1000;
  };
  TestServer server({.engine = engine});
  TestClient client(server.port());
  const json fields = {{"max_tokens", 3}, {"min_p", 0.25}, {"typical_p", 0.5}, {"repetition_penalty", 1.5},
                       {"presence_penalty", -0.5}, {"frequency_penalty", 0.75}, {"dry_multiplier", 0.5}, {"dry_base", 2},
                       {"dry_allowed_length", 3}, {"dry_penalty_last_n", 40}, {"dry_sequence_breakers", {"\n", "🙂🙃"}},
                       {"logit_bias", {{"77", -3}}}, {"min_tokens", 2}, {"priority", -4}, {"top_k", 7}};
  for (const bool chat : {false, true}) {
    const Response response = client.post(path_of(chat), ask(chat, fields));
    ASSERT_EQ(response.status, 200) << response.body;
    std::lock_guard lock(mutex);
    EXPECT_EQ(got.min_p, 0.25f);
    EXPECT_EQ(got.typical_p, 0.5f);
    EXPECT_EQ(got.repetition_penalty, 1.5f);
    EXPECT_EQ(got.presence_penalty, -0.5f);
    EXPECT_EQ(got.frequency_penalty, 0.75f);
    EXPECT_EQ(got.dry.multiplier, 0.5f);
    EXPECT_EQ(got.dry.base, 2.0f);
    EXPECT_EQ(got.dry.allowed_length, 3);
    EXPECT_EQ(got.dry.range, 40);
    EXPECT_EQ(got.min_tokens, 2);
    EXPECT_EQ(got.top_k, 7);
    ASSERT_EQ(got.logit_bias.size(), 1u);
    EXPECT_EQ(got.logit_bias[0].id, 77);
    EXPECT_EQ(got.logit_bias[0].value, -3.0f);
    const auto& tokenizer = *default_text_model().tokenizer;
    size_t with_newline = 0;
    for (TokenId id = 0; id < tokenizer.vocabulary_size(); ++id) {
      with_newline += tokenizer.token_bytes(id).find('\n') != std::string_view::npos;
    }
    ASSERT_EQ(got.dry_breakers.size(), with_newline + 1) << "and the last token of what no token contains";
    EXPECT_EQ(got.dry_breakers.back(), tokenizer.encode("🙂🙃").back());
  }
}

TEST(AnswerOptions, TokensOutsideTheVocabularyAreRefused) {
  TestServer server;
  TestClient client(server.port());
  for (const json& fields : {json{{"logit_bias", {{"999999", 1}}}}, json{{"stop_token_ids", {999999}}}}) {
    json body = fields;
    body["prompt"] = "x";
    const Response response = client.post("/v1/completions", body);
    EXPECT_EQ(response.status, 400);
    EXPECT_EQ(response.json()["error"]["param"], fields.items().begin().key());
    EXPECT_NE(response.error_message().find("999999"), std::string::npos);
  }
}

TEST(AnswerOptions, AReaderThatIsBehindGetsAllLogprobs) {
  FakeEngineOptions engine;
  TestServer server({.engine = engine});
  TestClient client(server.port());
  // No pause between tokens: many pieces are written at once, joined.
  const json fields = {{"max_tokens", 3000}, {"n", 2}, {"logprobs", 1}, {"return_token_ids", true}, {"ignore_eos", true},
                       {"seed", 3}, {"stream", true}};
  const json streamed = joined(client.post("/v1/completions", ask(false, fields)).body, false);
  ASSERT_EQ(streamed["choices"].size(), 2u);
  for (const json& choice : streamed["choices"]) {
    EXPECT_EQ(choice["token_ids"].size(), 3000u);
    EXPECT_EQ(choice["logprobs"]["tokens"].size(), 3000u);
    EXPECT_TRUE(std::is_sorted(choice["logprobs"]["text_offset"].begin(), choice["logprobs"]["text_offset"].end()));
  }
}

}  // namespace
}  // namespace crible
