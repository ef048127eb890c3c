// Requests read, replies written: what is accepted, what is refused and how it is said.
#include <gtest/gtest.h>

#include <random>

#include "wire/chat_request.h"
#include "wire/completion_request.h"
#include "wire/completion_response.h"
#include "wire/json_text.h"
#include "wire/sse.h"
#include "wire/tokenize_request.h"

namespace crible {
namespace {

template <typename T>
std::string outcome(const ApiResult<T>& result) {
  return result ? "accepted" : result.error().param + ": " + result.error().message;
}
std::string completion_outcome(Json fields) {
  if (!fields.contains("prompt")) fields["prompt"] = "x";
  return outcome(read_completion_request(fields));
}
std::string chat_outcome(Json fields) {
  if (!fields.contains("messages")) fields["messages"] = Json::array({Json{{"role", "user"}, {"content", "x"}}});
  return outcome(read_chat_request(fields));
}

TEST(Openai, DefaultsAreOpenais) {
  const auto request = read_completion_request(Json{{"prompt", "x"}});
  ASSERT_TRUE(request);
  EXPECT_EQ(request->options.temperature, 1.0);
  EXPECT_EQ(request->options.top_p, 1.0);
  EXPECT_EQ(request->options.top_k, 0);
  EXPECT_FALSE(request->options.max_tokens || request->options.seed || request->options.stream);
}

TEST(Openai, NullIsAbsentAndNeutralValuesAsk4Nothing) {
  Json body = {{"prompt", "x"}};
  for (const char* name : {"model", "temperature", "top_p", "top_k", "seed", "stop", "max_tokens", "stream", "n", "echo",
                           "logprobs", "suffix", "user", "stream_options", "logit_bias", "response_format"}) {
    body[name] = nullptr;
  }
  EXPECT_EQ(completion_outcome(body), "accepted");
  EXPECT_EQ(completion_outcome({{"suffix", ""}, {"user", "me"}, {"logit_bias", Json::object()},
                                {"response_format", {{"type", "text"}}}, {"top_k", -1}, {"length_penalty", 1}}),
            "accepted");
  EXPECT_EQ(chat_outcome({{"tools", Json::array()}, {"tool_choice", "none"}, {"logprobs", false}, {"top_logprobs", 0},
                          {"modalities", Json::array({"text"})}, {"parallel_tool_calls", true}, {"store", false}}),
            "accepted");
}

TEST(Openai, ValuesThatWouldChangeResultsAreRefusedByName) {
  for (const auto& [name, value] : std::vector<std::pair<std::string, Json>>{
           {"response_format", {{"type", "json_object"}}}, {"guided_json", "{}"}, {"length_penalty", 2},
           {"bad_words", {"x"}}, {"use_beam_search", true}, {"allowed_token_ids", {1}}}) {
    const std::string said = completion_outcome({{name, value}});
    EXPECT_TRUE(said.starts_with(name + ": " + name + " is ")) << said;
    EXPECT_EQ(chat_outcome({{name, value}}), said);
  }
  EXPECT_NE(chat_outcome({{"tools", Json::array({Json::object()})}}), "accepted");
  EXPECT_NE(chat_outcome({{"reasoning_effort", "high"}}), "accepted");
}

TEST(Openai, WrongTypesRangesAndNames) {
  for (const auto& [name, value] : std::vector<std::pair<std::string, Json>>{
           {"temperature", -0.1}, {"temperature", "1"}, {"temperature", 1e9}, {"top_p", 0}, {"top_p", 1.1}, {"top_k", -2},
           {"top_k", 1.5}, {"top_k", 4294967296}, {"max_tokens", 0}, {"max_tokens", -1}, {"max_tokens", true},
           {"seed", 1.5}, {"seed", UINT64_MAX}, {"stop", 5}, {"stop", ""}, {"stop", Json::array({"a", 5})},
           {"stop", Json::array({""})}, {"stop", std::string(5000, 'x')}, {"stop", std::vector<std::string>(17, "x")},
           {"stop_token_ids", {-1}}, {"stop_token_ids", {1.5}}, {"stop_token_ids", "x"}, {"ignore_eos", 1},
           {"stream", "yes"}, {"model", 5}, {"cache_salt", 5}, {"add_special_tokens", 1}, {"prompt", 5},
           {"prompt", Json::array()}, {"prompt", {1, "a"}}, {"prompt", {Json::array({1}), 5}}, {"prompt", {{1, -5}}},
           {"prompt", {5000000000}}, {"prompt", Json::object()}, {"max_token", 5}, {"Prompt", "x"}}) {
    const std::string said = completion_outcome({{name, value}});
    EXPECT_TRUE(said.starts_with(name + ": ")) << name << value << said;
  }
  EXPECT_EQ(outcome(read_completion_request(Json::object())).substr(0, 8), "prompt: ");
  EXPECT_NE(outcome(read_completion_request(Json::array())), "accepted");
  EXPECT_NE(outcome(read_completion_request(Json(nullptr))), "accepted");
}

TEST(Openai, SamplingOptionsAreReadByBothRoutes) {
  const Json fields = {{"min_p", 0.1}, {"typical_p", 0.9}, {"repetition_penalty", 1.2}, {"presence_penalty", -0.5},
                       {"frequency_penalty", 2}, {"dry_multiplier", 0.8}, {"dry_base", 2}, {"dry_allowed_length", 3},
                       {"dry_penalty_last_n", 64}, {"dry_sequence_breakers", {"\n", "."}},
                       {"logit_bias", {{"5", 1}, {"70", -99.5}}}, {"n", 3}, {"min_tokens", 4}, {"max_tokens", 9},
                       {"prompt_logprobs", 2}, {"priority", -7}, {"return_token_ids", true},
                       {"return_tokens_as_token_ids", true}};
  Json completion = fields, chat = fields;
  completion.update(Json{{"prompt", "x"}, {"logprobs", 5}, {"best_of", 4}, {"echo", true}});
  chat.update(Json{{"messages", Json::array({Json{{"role", "user"}, {"content", "x"}}})}, {"logprobs", true}, {"top_logprobs", 5}});
  const auto text = read_completion_request(completion);
  ASSERT_TRUE(text) << text.error().message;
  EXPECT_EQ(text->options.best_of, 4);
  EXPECT_TRUE(text->options.echo);
  const auto talk = read_chat_request(chat);
  ASSERT_TRUE(talk) << talk.error().message;
  EXPECT_EQ(talk->options.best_of, 3);
  for (const GenerationOptions& read : {text->options, talk->options}) {
    EXPECT_EQ(read.min_p, 0.1);
    EXPECT_EQ(read.typical_p, 0.9);
    EXPECT_EQ(read.repetition_penalty, 1.2);
    EXPECT_EQ(read.presence_penalty, -0.5);
    EXPECT_EQ(read.frequency_penalty, 2);
    EXPECT_EQ(read.dry_multiplier, 0.8);
    EXPECT_EQ(read.dry_base, 2);
    EXPECT_EQ(read.dry_allowed_length, 3);
    EXPECT_EQ(read.dry_penalty_last_n, 64);
    EXPECT_EQ(read.dry_sequence_breakers, (std::vector<std::string>{"\n", "."}));
    EXPECT_EQ(read.logit_bias, (std::vector<std::pair<TokenId, double>>{{5, 1}, {70, -99.5}}));
    EXPECT_EQ(read.n, 3);
    EXPECT_EQ(read.min_tokens, 4);
    EXPECT_EQ(read.logprobs, 5);
    EXPECT_EQ(read.prompt_logprobs, 2);
    EXPECT_EQ(read.priority, -7);
    EXPECT_TRUE(read.return_token_ids && read.tokens_as_ids);
  }
}

TEST(Openai, SamplingOptionsOutOfRangeAreNamedWithTheirRange) {
  const std::pair<const char*, std::vector<Json>> wrong[] = {
      {"min_p", {-0.1, 1.1, "x"}}, {"typical_p", {0, 1.5}}, {"repetition_penalty", {0, -1, 101}},
      {"presence_penalty", {-2.1, 3}}, {"frequency_penalty", {-2.1, 3}}, {"dry_multiplier", {-1, 1000}},
      {"dry_base", {0.5}}, {"dry_allowed_length", {0, 1.5}}, {"dry_penalty_last_n", {-2}},
      {"dry_sequence_breakers", {"x", {1}, {""}}}, {"n", {0, 129, 1.5}}, {"min_tokens", {-1}},
      {"prompt_logprobs", {-1, 21}}, {"priority", {"high"}}, {"return_token_ids", {1}},
      {"logit_bias", {{{"x", 1}}, {{"-5", 1}}, {{"5", 101}}, {{"5", "x"}}, {{"5x", 1}}, {{"5", 1}, {"05", 2}}}},
  };
  for (const auto& [name, values] : wrong) {
    for (const Json& value : values) {
      const std::string said = completion_outcome({{name, value}});
      EXPECT_TRUE(said.starts_with(std::string(name) + ": " + name + " ")) << name << value << said;
      EXPECT_EQ(chat_outcome({{name, value}}), said);
    }
  }
  EXPECT_TRUE(completion_outcome({{"logprobs", 21}}).starts_with("logprobs: logprobs must be an integer from 0 to 20"));
  EXPECT_TRUE(chat_outcome({{"logprobs", true}, {"top_logprobs", 21}}).starts_with("top_logprobs: "));
  EXPECT_TRUE(chat_outcome({{"logprobs", 5}}).starts_with("logprobs: "));
}

TEST(Openai, OptionsThatContradictEachOtherAreRefused) {
  EXPECT_TRUE(completion_outcome({{"n", 3}, {"best_of", 2}}).starts_with("best_of: best_of is 2; it must be at least n, 3"));
  EXPECT_TRUE(completion_outcome({{"best_of", 2}, {"stream", true}}).starts_with("best_of: "));
  EXPECT_TRUE(completion_outcome({{"prompt_logprobs", 1}, {"stream", true}}).starts_with("prompt_logprobs: "));
  EXPECT_TRUE(completion_outcome({{"min_tokens", 5}, {"max_tokens", 4}}).starts_with("min_tokens: "));
  EXPECT_TRUE(completion_outcome({{"max_tokens", 0}}).starts_with("max_tokens: "));
  EXPECT_EQ(completion_outcome({{"max_tokens", 0}, {"echo", true}}), "accepted");
  EXPECT_TRUE(chat_outcome({{"max_tokens", 0}}).starts_with("max_tokens: "));
  EXPECT_TRUE(chat_outcome({{"top_logprobs", 2}}).starts_with("top_logprobs: "));
  EXPECT_TRUE(chat_outcome({{"best_of", 2}}).starts_with("best_of: "));
  const Json prompts = Json::array({"a", "b", "c", "d", "e", "f", "g", "h", "i"});
  EXPECT_TRUE(completion_outcome({{"prompt", prompts}, {"n", 128}}).starts_with("n: "));
}

TEST(Openai, StreamOptionsNeedAStream) {
  EXPECT_EQ(completion_outcome({{"stream", true}, {"stream_options", {{"include_usage", true}}}}), "accepted");
  EXPECT_TRUE(completion_outcome({{"stream_options", {{"include_usage", true}}}}).starts_with("stream_options: "));
  EXPECT_TRUE(completion_outcome({{"stream", true}, {"stream_options", {{"include_usag", true}}}})
                  .starts_with("stream_options.include_usag: unknown field"));
  EXPECT_NE(completion_outcome({{"stream", true}, {"stream_options", {{"continuous_usage_stats", true}}}}), "accepted");
}

TEST(Openai, ConversationsAreReadForTemplates) {
  const auto request = read_chat_request(Json::parse(R"({"max_tokens": 5, "max_completion_tokens": 7, "messages": [
      {"role":"developer","content":"be brief"},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"bob"},
      {"role":"assistant","content":"c","tool_calls":[],"refusal":null,"annotations":[]}],
      "chat_template_kwargs":{"enable_thinking":false}})"));
  ASSERT_TRUE(request) << request.error().message;
  EXPECT_EQ(request->options.max_tokens, 7);
  EXPECT_EQ(request->conversation.messages.dump(),
            R"([{"role":"system","content":"be brief"},{"role":"user","content":"a\nb","name":"bob"},{"role":"assistant","content":"c"}])");
  EXPECT_EQ(request->conversation.template_parameters["enable_thinking"], false);
  for (const char* messages : {"[]", "5", "{}", "[5]", R"([{"role":"user"}])", R"([{"content":"x"}])",
                               R"([{"role":"cat","content":"x"}])", R"([{"role":"tool","content":"x"}])",
                               R"([{"role":"user","content":5}])", R"([{"role":"user","content":[{"type":"image_url"}]}])",
                               R"([{"role":"user","content":"x","colour":1}])",
                               R"([{"role":"assistant","content":"x","tool_calls":[{}]}])"}) {
    EXPECT_TRUE(chat_outcome({{"messages", Json::parse(messages)}}).starts_with("messages")) << messages;
  }
}

TEST(Openai, TokenizeTakesAPromptOrMessages) {
  EXPECT_TRUE(read_tokenize_request(Json{{"prompt", ""}}));
  EXPECT_TRUE(read_tokenize_request(Json::parse(R"({"messages":[{"role":"user","content":"x"}]})"))->conversation);
  EXPECT_FALSE(read_tokenize_request(Json{{"prompt", 5}}));
  EXPECT_FALSE(read_tokenize_request(Json::object()));
  EXPECT_FALSE(read_detokenize_request(Json{{"tokens", "x"}}));
  EXPECT_FALSE(read_detokenize_request(Json::object()));
}

TEST(Openai, HostileJsonIsRefusedCheaplyAndSaidInAscii) {
  const std::string deep(1'000'000, '[');
  for (const std::string& text : {std::string(), deep, std::string("{\"a\":1} x"), std::string("{\"a\":\"\xff\"}"),
                                  std::string("{\"a\":\"\\ud800\"}"), std::string("{\"a\":1,}"), std::string("nan"),
                                  std::string("{\"a\":\"\x01\"}"), std::string(1, '\0'), std::string("{}\0x", 4)}) {
    const auto parsed = parse_json(text);
    ASSERT_FALSE(parsed) << text.substr(0, 40);
    EXPECT_LT(parsed.error().message.size(), 600u);
    for (const char c : parsed.error().message) EXPECT_TRUE(c >= 0x20 && c < 0x7F);
  }
  EXPECT_TRUE(parse_json(std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']')));
  EXPECT_TRUE(parse_json("[\"" + std::string(500, '[') + "\\\"" + std::string(500, '{') + "\"]"))
      << "brackets in a string do not nest";
}

TEST(Openai, StringsSurviveTheRoundTrip) {
  std::mt19937 random(3);
  constexpr std::string_view kParts[] = {"a", "\"", "\\", "\n", "\r", "\t", "\x01", "\x1f", "\x7f", "é", "🙂", "\xE2\x80\xA8", "/", std::string_view("\0", 1)};
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = static_cast<int>(random() % 12); i > 0; --i) text += kParts[random() % std::size(kParts)];
    std::string written;
    append_json_string(written, text);
    EXPECT_EQ(Json::parse(written).get<std::string>(), text);
    EXPECT_EQ(written.find('\n'), std::string::npos) << "an event's data is one line";
  }
}

TEST(Openai, ErrorsHaveTheProtocolsShape) {
  const Json body = Json::parse(error_body({.status = 400, .message = "a \"b\"", .param = "stop"}))["error"];
  EXPECT_EQ(body.dump(), R"({"message":"a \"b\"","type":"invalid_request_error","param":"stop","code":null})");
  EXPECT_EQ(to_api_error({ErrorCode::kUnavailable, "x"}).status, 503);
  EXPECT_EQ(to_api_error({ErrorCode::kInvalidArgument, "x"}).status, 400);
  EXPECT_EQ(to_api_error({ErrorCode::kInternal, "x"}).status, 500);
}

TEST(Openai, ChunksAreValidAndTheUsageComesOnce) {
  const ReplyIdentity identity{.id = "id\"1", .created = 5, .model = "m\\n", .system_fingerprint = "fp"};
  for (const CompletionKind kind : {CompletionKind::kText, CompletionKind::kChat}) {
    for (const bool with_usage : {false, true}) {
      const ChunkWriter writer(kind, identity, with_usage);
      std::string stream;
      if (kind == CompletionKind::kChat) writer.append_role(stream, 0);
      writer.append_text(stream, 0, "a\n\"b\"");
      writer.append_finish(stream, 0, "stop");
      writer.append_usage(stream, {.prompt_tokens = 3, .completion_tokens = 2, .cached_tokens = 1});
      SseParser parser;
      parser.feed(stream);
      SseEvent event;
      std::vector<Json> chunks;
      while (*parser.next(event)) chunks.push_back(Json::parse(event.data));
      ASSERT_EQ(chunks.size(), kind == CompletionKind::kChat ? 4u : 3u);
      for (const Json& chunk : chunks) {
        EXPECT_EQ(chunk["id"], "id\"1");
        EXPECT_EQ(chunk["model"], "m\\n");
      }
      for (size_t i = 0; i + 1 < chunks.size(); ++i) EXPECT_EQ(chunks[i].contains("usage"), with_usage);
      const Json& text_choice = chunks[chunks.size() - 3]["choices"][0];
      EXPECT_EQ(kind == CompletionKind::kChat ? text_choice["delta"]["content"] : text_choice["text"], "a\n\"b\"");
      EXPECT_TRUE(text_choice["finish_reason"].is_null());
      EXPECT_EQ(chunks[chunks.size() - 2]["choices"][0]["finish_reason"], "stop");
      EXPECT_EQ(chunks.back()["usage"].dump(),
                R"({"prompt_tokens":3,"completion_tokens":2,"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1}})");
    }
  }
}

}  // namespace
}  // namespace crible
