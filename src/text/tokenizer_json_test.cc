#include "text/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace crible {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

// A sound file over a few characters, each part replaceable by a test.
json small() {
  return json::parse(R"({
    "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    "pre_tokenizer": null,
    "decoder": {"type": "Sequence", "decoders": [
      {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
    "added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true},
                     {"id": 9, "content": "[x]", "special": false}],
    "model": {"type": "BPE", "unk_token": "<unk>", "byte_fallback": true,
      "vocab": {"<unk>": 0, "<s>": 1, "<0xC3>": 2, "<0xA9>": 3, "a": 4, "b": 5, "▁": 6, "ab": 7, "▁ab": 8},
      "merges": [["a", "b"], "▁ ab"]}})");
}

Result<std::shared_ptr<const Tokenizer>> load(const json& file) {
  CRIBLE_TRY(TokenizerParts parts, read_tokenizer_json(file.dump(), "dir/tokenizer.json"));
  return Tokenizer::make(std::move(parts));
}

std::string error_of(const json& file, ErrorCode code) {
  const auto tokenizer = load(file);
  EXPECT_FALSE(tokenizer);
  if (tokenizer) return "";
  EXPECT_EQ(tokenizer.error().code, code) << tokenizer.error().message;
  EXPECT_THAT(tokenizer.error().message, HasSubstr("dir/tokenizer.json"));
  return tokenizer.error().message;
}

TEST(TokenizerJson, ReadsTheParts) {
  const auto loaded = load(small());
  ASSERT_TRUE(loaded) << loaded.error().message;
  const Tokenizer& tokenizer = **loaded;
  EXPECT_THAT(tokenizer.encode("ab ab", {.add_special = true}), ElementsAre(1, 7, 8));
  EXPECT_THAT(tokenizer.encode("é<s>[x]", {.parse_special = true}), ElementsAre(2, 3, 1, 9));
  EXPECT_THAT(tokenizer.encode("a<s>"), ElementsAre(4, 0, 0, 0));
  const TokenId ids[] = {1, 8, 2, 3, 9};
  EXPECT_EQ(tokenizer.decode(ids, true), " abé[x]");
  EXPECT_TRUE(tokenizer.is_control(0));
  EXPECT_FALSE(tokenizer.is_control(9));
}

TEST(TokenizerJson, NoMergeAndNoLetterMakesAControlToken) {
  json file = small();
  file["added_tokens"].push_back({{"id", 4}, {"content", "a"}, {"special", true}});
  const auto loaded = load(file);
  ASSERT_TRUE(loaded);
  EXPECT_THAT((*loaded)->encode("ab"), ElementsAre(0, 5));
  EXPECT_THAT((*loaded)->encode("ab", {.parse_special = true}), ElementsAre(4, 5));
}

TEST(TokenizerJson, GapsInTheIdsAreTokensWithoutText) {
  json file = small();
  file["added_tokens"].push_back({{"id", 12}, {"content", "[y]"}});
  const auto loaded = load(file);
  ASSERT_TRUE(loaded) << loaded.error().message;
  EXPECT_EQ((*loaded)->vocabulary_size(), 13);
  EXPECT_EQ((*loaded)->token_bytes(11), "");
  EXPECT_THAT((*loaded)->encode("[y]"), ElementsAre(12));
}

TEST(TokenizerJson, WhatIsNotSupportedIsNamed) {
  const auto named = [](const char* part, const json& value, const char* message) {
    json file = small();
    file[json::json_pointer(part)] = value;
    EXPECT_THAT(error_of(file, ErrorCode::kUnsupported), HasSubstr(message)) << part;
  };
  named("/model/type", "WordPiece", "\"WordPiece\"");
  named("/model/dropout", 0.1, "dropout");
  named("/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  named("/normalizer", {{"type", "Precompiled"}}, "normalizer \"Precompiled\"");
  named("/pre_tokenizer", {{"type", "BertPreTokenizer"}}, "\"BertPreTokenizer\"");
  named("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"Regex", "[a[b]]"}}}}, "a class within a class");
  named("/pre_tokenizer", {{"type", "Split"}, {"pattern", {{"String", "a"}}}, {"behavior", "Odd"}},
        "\"Odd\"");
  named("/pre_tokenizer", {{"type", "ByteLevel"}}, "disagree on \"ByteLevel\"");
  named("/pre_tokenizer",
        {{"type", "Sequence"}, {"pretokenizers", {{{"type", "ByteLevel"}}, {{"type", "Digits"}}}}},
        "\"Digits\" after \"ByteLevel\"");
  named("/decoder", {{"type", "WordPiece"}}, "decoder \"WordPiece\"");
  named("/decoder", nullptr, "without \"decoder\"");
  named("/decoder", {{"type", "Strip"}, {"content", " "}, {"start", 0}, {"stop", 1}}, "\"Strip\"");
  named("/post_processor", {{"type", "BertProcessing"}}, "post_processor \"BertProcessing\"");
}

TEST(TokenizerJson, WhatBreaksTheFormatIsCorrupt) {
  const auto named = [](const char* part, const json& value, const char* message) {
    json file = small();
    file[json::json_pointer(part)] = value;
    EXPECT_THAT(error_of(file, ErrorCode::kCorrupt), HasSubstr(message)) << part;
  };
  named("/model", nullptr, "no \"model\"");
  named("/model/vocab", json::object(), "no \"vocab\"");
  named("/model/vocab/a", "x", "no integer");
  named("/model/vocab/a", 5, "share id 5");
  named("/model/vocab/a", -1, "no id");
  named("/model/vocab/a", 100000000, "no id");
  named("/model/vocab/a", 18446744073709551615u, "no id");
  named("/model/merges/0", "ab", "merge 0");
  named("/model/merges/0", "a b c", "merge 0");
  named("/model/merges/0", {"a", "q"}, "merge 0");
  named("/model/unk_token", "<none>", "<none>");
  named("/model/byte_fallback", 1, "byte_fallback");
  named("/added_tokens/0/content", "<s>", "share id 0");
  named("/added_tokens/0/id", -7, "no id");
  named("/added_tokens/2/content", "ab", "are both");
  named("/post_processor/special_tokens", json::object(), "names the special token");
  named("/post_processor/special_tokens/<s>/ids/0", 99, "adds token 99");
  named("/normalizer", {{"pattern", 1}}, "no \"type\"");
  named("/normalizer/pattern", {{"String", ""}}, "empty pattern");
  named("/normalizer/pattern", {{"Regex", "("}}, "not closed");
  const auto broken = read_tokenizer_json("{\"model\":", "dir/tokenizer.json");
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code, ErrorCode::kCorrupt);
  const std::string trailing = small().dump() + std::string(1, '\0') + "x";
  EXPECT_FALSE(read_tokenizer_json(trailing, "dir/tokenizer.json"));
}

TEST(TokenizerJson, HostileMegabytesEncodeAndComeBack) {
  const auto loaded = load(small());
  ASSERT_TRUE(loaded);
  std::string text;
  while (text.size() < 1 << 20) text += "abab ab  ";
  EXPECT_EQ((*loaded)->decode((*loaded)->encode(text), false), text);
  std::string tokens;
  while (tokens.size() < 1 << 20) tokens += "[x]<s>";
  EXPECT_EQ((*loaded)->encode(tokens, {.parse_special = true}).size(), tokens.size() / 3);
}

}  // namespace
}  // namespace crible
