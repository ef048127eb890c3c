// The three forms of log-probabilities, to the byte.
#include "wire/logprobs.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

namespace crible {
namespace {

using nlohmann::json;

TokenScores example() {
  TokenScores scores;
  scores.begin_token(0);
  scores.add({.id = 1, .bytes = "Hi", .logprob = std::numeric_limits<float>::quiet_NaN(), .rank = 0, .partial = false});
  scores.begin_token(2);
  scores.add({.id = 9, .bytes = " \"you\"", .logprob = -1.5f, .rank = 3, .partial = false});
  scores.add({.id = 7, .bytes = "a", .logprob = -0.25f, .rank = 1, .partial = false});
  scores.add({.id = 8, .bytes = "\xF0\x9F", .logprob = -0.5f, .rank = 2, .partial = true});
  scores.begin_token(8);
  scores.add({.id = 8, .bytes = "\xF0\x9F", .logprob = -std::numeric_limits<float>::infinity(), .rank = 1, .partial = true});
  scores.add({.id = 8, .bytes = "\xF0\x9F", .logprob = -std::numeric_limits<float>::infinity(), .rank = 1, .partial = true});
  return scores;
}

TEST(Logprobs, OfACompletion) {
  std::string out;
  append_completion_logprobs(out, example(), 0, 3, false);
  EXPECT_EQ(out, R"({"text_offset":[0,2,8],"token_logprobs":[null,-1.5,-9999],"tokens":["Hi"," \"you\"","bytes:\\xf0\\x9f"],)"
                 R"("top_logprobs":[null,{"a":-0.25,"bytes:\\xf0\\x9f":-0.5," \"you\"":-1.5},{"bytes:\\xf0\\x9f":-9999}]})");
  EXPECT_TRUE(json::accept(out));
  out.clear();
  append_completion_logprobs(out, example(), 1, 2, true);
  EXPECT_EQ(out, R"({"text_offset":[2],"token_logprobs":[-1.5],"tokens":["token_id:9"],)"
                 R"("top_logprobs":[{"token_id:7":-0.25,"token_id:8":-0.5,"token_id:9":-1.5}]})");
}

TEST(Logprobs, OfAChat) {
  std::string out;
  append_chat_logprobs(out, example(), 1, 3, false);
  EXPECT_EQ(json::parse(out), json::parse(R"({"content":[
      {"token":" \"you\"","logprob":-1.5,"bytes":[32,34,121,111,117,34],"top_logprobs":[
        {"token":"a","logprob":-0.25,"bytes":[97]},{"token":"\\xf0\\x9f","logprob":-0.5,"bytes":[240,159]}]},
      {"token":"\\xf0\\x9f","logprob":-9999,"bytes":[240,159],"top_logprobs":[
        {"token":"\\xf0\\x9f","logprob":-9999,"bytes":[240,159]}]}],"refusal":null})"));
}

TEST(Logprobs, OfAPrompt) {
  std::string out;
  append_prompt_logprobs(out, example());
  EXPECT_EQ(json::parse(out), json::parse(R"([null,
      {"9":{"logprob":-1.5,"rank":3,"decoded_token":" \"you\""},"7":{"logprob":-0.25,"rank":1,"decoded_token":"a"},
       "8":{"logprob":-0.5,"rank":2,"decoded_token":"\\xf0\\x9f"}},
      {"8":{"logprob":-9999,"rank":1,"decoded_token":"\\xf0\\x9f"}}])"));
}

TEST(Logprobs, AppendingPartsGivesTheWhole) {
  const TokenScores whole = example();
  TokenScores joined;
  joined.append(whole, 0, 1);
  joined.append(whole, 1, 1);
  joined.append(whole, 1, 3);
  std::string a, b;
  append_completion_logprobs(a, whole, 0, whole.size(), false);
  append_completion_logprobs(b, joined, 0, joined.size(), false);
  EXPECT_EQ(a, b);
}

}  // namespace
}  // namespace crible
