#include "text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "text/byte_alphabet.h"
#include "text/utf8.h"

namespace crible {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A vocabulary of all 256 bytes, a few merges and special tokens.
Vocabulary small_vocabulary() {
  Vocabulary vocabulary;
  vocabulary.source = "small.gguf";
  vocabulary.pre_tokenizer = "gpt-2";
  for (unsigned byte = 0; byte < 256; ++byte) {
    vocabulary.texts.push_back(bytes_to_alphabet(std::string(1, static_cast<char>(byte))));
  }
  for (const char* text : {"he", "ll", "hell", "hello", "Ġhello"})
    vocabulary.texts.emplace_back(text);  // 256 to 260
  vocabulary.merges = {{"h", "e"}, {"l", "l"}, {"he", "ll"}, {"hell", "o"}, {"Ġ", "hello"}};
  vocabulary.kinds.assign(vocabulary.texts.size(), TokenKind::kNormal);
  const auto add = [&](const char* text, TokenKind kind) {
    vocabulary.texts.emplace_back(text);
    vocabulary.kinds.push_back(kind);
  };
  add("<s>", TokenKind::kControl);         // 261
  add("</s>", TokenKind::kControl);        // 262
  add("<s>>", TokenKind::kControl);        // 263
  add("[tool]", TokenKind::kUserDefined);  // 264
  add("<unk>", TokenKind::kUnknown);       // 265
  add("<0x0A>", TokenKind::kByte);         // 266
  add("plain text", TokenKind::kNormal);   // 267: outside the byte alphabet, so literal
  add("<reserved>", TokenKind::kUnused);   // 268
  vocabulary.bos = 261;
  vocabulary.eos = 262;
  return vocabulary;
}

std::shared_ptr<const Tokenizer> make(const Vocabulary& vocabulary) {
  auto tokenizer = Tokenizer::from_vocabulary(vocabulary);
  EXPECT_TRUE(tokenizer) << tokenizer.error().message;
  return tokenizer ? *tokenizer : nullptr;
}

std::string error_of(const Vocabulary& vocabulary, ErrorCode code = ErrorCode::kCorrupt) {
  const auto tokenizer = Tokenizer::from_vocabulary(vocabulary);
  EXPECT_FALSE(tokenizer);
  if (tokenizer) return "";
  EXPECT_EQ(tokenizer.error().code, code);
  return tokenizer.error().message;
}

TEST(Tokenizer, SpecialTokensAreParsedOnlyWhenAsked) {
  const auto tokenizer = make(small_vocabulary());
  EXPECT_THAT(tokenizer->encode("hello<s>>hello</s>", {.parse_special = true}),
              ElementsAre(259, 263, 259, 262));
  EXPECT_THAT(tokenizer->encode("<s> hello", {.parse_special = true}), ElementsAre(261, 260));
  EXPECT_THAT(tokenizer->encode("<s>"), ElementsAre('<', 's', '>'));
  EXPECT_THAT(tokenizer->encode("<unk>", {.parse_special = true}), ElementsAre(265));
  // User-defined text is one token either way; unused text never is.
  EXPECT_THAT(tokenizer->encode("a[tool]<s>"), ElementsAre('a', 264, '<', 's', '>'));
  EXPECT_EQ(tokenizer->encode("<reserved>", {.parse_special = true}).size(), 10u);
}

TEST(Tokenizer, AddsBeginAndEndWhereTheFileAsks) {
  Vocabulary vocabulary = small_vocabulary();
  EXPECT_THAT(make(vocabulary)->encode("hello", {.add_special = true}), ElementsAre(259));
  vocabulary.add_bos = true;
  vocabulary.add_eos = true;
  const auto tokenizer = make(vocabulary);
  EXPECT_TRUE(tokenizer->adds_bos());
  EXPECT_THAT(tokenizer->encode("hello", {.add_special = true}), ElementsAre(261, 259, 262));
  EXPECT_THAT(tokenizer->encode("", {.add_special = true}), ElementsAre(261, 262));
  EXPECT_THAT(tokenizer->encode(""), ElementsAre());
  // A family whose rule begins with bos does so unless the file says no, or names none.
  vocabulary = small_vocabulary();
  vocabulary.pre_tokenizer = "llama-bpe";
  EXPECT_TRUE(make(vocabulary)->adds_bos());
  vocabulary.add_bos = false;
  EXPECT_FALSE(make(vocabulary)->adds_bos());
  vocabulary.add_bos.reset();
  vocabulary.bos.reset();
  EXPECT_FALSE(make(vocabulary)->adds_bos());
}

TEST(Tokenizer, AWholeWordInTheVocabularyGoesBeforeMergesWhereTheRuleSaysSo) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.texts.push_back("xyz");  // 269: no merge makes it
  vocabulary.kinds.push_back(TokenKind::kNormal);
  EXPECT_THAT(make(vocabulary)->encode("xyz"), ElementsAre('x', 'y', 'z'));
  vocabulary.pre_tokenizer = "llama-bpe";
  EXPECT_THAT(make(vocabulary)->encode("xyz"), ElementsAre(269));
}

TEST(Tokenizer, BytesOfEachKindOfToken) {
  const auto tokenizer = make(small_vocabulary());
  EXPECT_EQ(tokenizer->token_bytes(260), " hello");
  EXPECT_EQ(tokenizer->token_bytes(261), "<s>");
  EXPECT_EQ(tokenizer->token_bytes(264), "[tool]");
  EXPECT_EQ(tokenizer->token_bytes(266), "\n");
  EXPECT_EQ(tokenizer->token_bytes(267), "plain text");
  EXPECT_EQ(tokenizer->token_bytes(0xC3), "\xC3");
  EXPECT_EQ(tokenizer->token_text(0xC3), "\uFFFD");
  EXPECT_EQ(tokenizer->find_token(" hello"), 260);
  EXPECT_EQ(tokenizer->find_token("</s>"), 262);
  EXPECT_EQ(tokenizer->find_token("\n"), '\n');
  EXPECT_EQ(tokenizer->find_token("absent"), std::nullopt);
  const TokenId ids[] = {261, 259, 0xC3, 0xA9, 265, 264, 262};
  EXPECT_EQ(tokenizer->decode(ids, true), "helloé[tool]");
  EXPECT_EQ(tokenizer->decode(ids, false), "<s>helloé<unk>[tool]</s>");
}

TEST(Tokenizer, IdsOutsideTheVocabularyAreFound) {
  const auto tokenizer = make(small_vocabulary());
  const TokenId good[] = {0, 268};
  EXPECT_TRUE(tokenizer->check_ids(good));
  for (const TokenId bad : {-1, 269, INT32_MAX, INT32_MIN}) {
    const TokenId ids[] = {5, bad};
    const auto status = tokenizer->check_ids(ids);
    ASSERT_FALSE(status);
    EXPECT_EQ(status.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(status.error().message, HasSubstr("place 1"));
  }
  EXPECT_DEATH(tokenizer->token_bytes(269), "token 269 of 269");
}

TEST(Tokenizer, EndsOfGeneration) {
  Vocabulary vocabulary = small_vocabulary();
  EXPECT_EQ(make(vocabulary)->eot(), std::nullopt);
  vocabulary.texts.insert(vocabulary.texts.end(), {"<|eot_id|>", "<|im_end|>", "<|endoftext|>"});
  vocabulary.kinds.insert(vocabulary.kinds.end(),
                          {TokenKind::kControl, TokenKind::kControl, TokenKind::kNormal});
  const auto tokenizer = make(vocabulary);
  EXPECT_EQ(tokenizer->eot(), 270);
  for (const TokenId id : {262, 269, 270}) EXPECT_TRUE(tokenizer->is_end_of_generation(id)) << id;
  // A normal token may spell anything; it ends nothing.
  for (const TokenId id : {261, 263, 271, 104}) EXPECT_FALSE(tokenizer->is_end_of_generation(id)) << id;
  vocabulary.eot = 262;
  EXPECT_EQ(make(vocabulary)->eot(), 262);
}

TEST(Tokenizer, BadVocabulariesAreRefusedWithTheReason) {
  Vocabulary vocabulary = small_vocabulary();
  vocabulary.texts[7] = "hello";
  EXPECT_THAT(error_of(vocabulary), HasSubstr("tokens 7 and 259 are both \"hello\""));
  vocabulary = small_vocabulary();
  vocabulary.texts[9].clear();
  EXPECT_THAT(error_of(vocabulary), HasSubstr("token 9 is empty"));
  vocabulary = small_vocabulary();
  vocabulary.merges.emplace_back("q", "q");
  EXPECT_THAT(error_of(vocabulary), HasSubstr("needs the token \"qq\""));
  vocabulary = small_vocabulary();
  vocabulary.kinds.pop_back();
  EXPECT_THAT(error_of(vocabulary), HasSubstr("268 token kinds for 269 tokens"));
  for (const TokenId bad : {-1, 269}) {
    vocabulary = small_vocabulary();
    vocabulary.eos = bad;
    EXPECT_THAT(error_of(vocabulary), HasSubstr("the eos token is"));
  }
  vocabulary = small_vocabulary();
  vocabulary.add_bos = true;
  vocabulary.bos.reset();
  EXPECT_THAT(error_of(vocabulary), HasSubstr("bos token is to be added"));
  vocabulary = small_vocabulary();
  vocabulary.add_eos = true;
  vocabulary.eos.reset();
  EXPECT_THAT(error_of(vocabulary), HasSubstr("eos token is to be added"));
  EXPECT_THAT(error_of(Vocabulary{}), HasSubstr("0 tokens"));
  vocabulary = small_vocabulary();
  vocabulary.pre_tokenizer = "mystery";
  EXPECT_THAT(error_of(vocabulary, ErrorCode::kUnsupported),
              HasSubstr("small.gguf: pre-tokenizer \"mystery\""));
}

class DefaultTokenizer : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto file = GgufFile::open(CRIBLE_SOURCE_DIR "/models/default.gguf");
    ASSERT_TRUE(file) << file.error().message;
    auto made = Tokenizer::from_gguf(*file);
    ASSERT_TRUE(made) << made.error().message;
    tokenizer() = *made;
  }
  static void TearDownTestSuite() { tokenizer().reset(); }
  static std::shared_ptr<const Tokenizer>& tokenizer() {
    static std::shared_ptr<const Tokenizer> instance;
    return instance;
  }
};

TEST_F(DefaultTokenizer, NamedTokens) {
  EXPECT_EQ(tokenizer()->vocabulary_size(), 49152);
  EXPECT_EQ(tokenizer()->bos(), 1);
  EXPECT_EQ(tokenizer()->eos(), 2);
  EXPECT_EQ(tokenizer()->pad(), 2);
  EXPECT_EQ(tokenizer()->eot(), 2);
  EXPECT_FALSE(tokenizer()->adds_bos());
  EXPECT_TRUE(tokenizer()->is_control(1));
  EXPECT_FALSE(tokenizer()->is_control(17));
  EXPECT_TRUE(tokenizer()->is_end_of_generation(0));  // <|endoftext|>
  EXPECT_TRUE(tokenizer()->is_end_of_generation(2));
  EXPECT_FALSE(tokenizer()->is_end_of_generation(1));
  EXPECT_THAT(tokenizer()->encode("Hello 123  world", {.add_special = true}),
              ElementsAre(19556, 216, 33, 34, 35, 216, 905));
}

// Bytes that this vocabulary has no token for: control characters and lead bytes of unassigned planes.
bool expressible(std::string_view character) {
  return std::string_view("\x04\x06\x13\x14\x16\x1D\xF1\xF2", 8).find(character[0]) == std::string_view::npos;
}

std::string random_text(std::mt19937& random, size_t characters) {
  std::string text;
  while (characters > 0) {
    const uint32_t limits[] = {0x7F, 0x7FF, 0x3100, 0xFFFF, 0x1FFFF, 0x10FFFF};
    const uint32_t c = random() % (limits[random() % 6] + 1);
    std::string s;
    if (c < 0x80) {
      s = {static_cast<char>(c)};
    } else if (c < 0x800) {
      s = {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
    } else if (c < 0x10000) {
      s = {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)),
           static_cast<char>(0x80 | (c & 0x3F))};
    } else {
      s = {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
           static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
    }
    if (utf8_sequence_length(s) != s.size() || !expressible(s)) continue;  // surrogates go too
    text += s;
    --characters;
  }
  return text;
}

TEST_F(DefaultTokenizer, TextComesBackByteForByte) {
  std::mt19937 random(61);
  for (int i = 0; i < 4000; ++i) {
    const std::string text = random_text(random, random() % 60);
    const bool parse_special = i % 2;
    const auto ids = tokenizer()->encode(text, {.parse_special = parse_special});
    ASSERT_TRUE(tokenizer()->check_ids(ids));
    ASSERT_EQ(tokenizer()->decode(ids, false), text);
  }
}

TEST_F(DefaultTokenizer, AnyBytesEncodeAsTheirRepairedText) {
  std::mt19937 random(62);
  for (int i = 0; i < 4000; ++i) {
    std::string bytes;
    for (size_t n = random() % 40; n > 0; --n) bytes.push_back(static_cast<char>(random()));
    ASSERT_EQ(tokenizer()->encode(bytes), tokenizer()->encode(replace_invalid_bytes(bytes)));
  }
}

TEST_F(DefaultTokenizer, ALongTextEncodesAsItsLinesDo) {
  // Long texts remember words and short ones do not. Every line begins with a letter and ends with
  // "!" and a line break, so that no word reaches from one line into the next.
  std::mt19937 random(63);
  std::string text;
  std::vector<TokenId> by_line;
  for (int i = 0; i < 3000; ++i) {
    const std::string middle = i % 3 ? " value " + std::to_string(random() % 50) : random_text(random, 9);
    const std::string line = "line" + middle + "!\n";
    const auto ids = tokenizer()->encode(line);
    by_line.insert(by_line.end(), ids.begin(), ids.end());
    text += line;
  }
  ASSERT_EQ(tokenizer()->encode(text), by_line);
}

TEST_F(DefaultTokenizer, HostileMegabytesEncode) {
  const size_t n = 1 << 20;
  std::mt19937 random(64);
  std::vector<std::string> texts = {std::string(n, 'a'), std::string(n, ' '), std::string(n, '\n'),
                                    std::string(n, '('), std::string(n, '7')};
  std::string letters, unclosed, accents;
  while (letters.size() < n) letters.push_back(static_cast<char>('a' + random() % 26));
  while (unclosed.size() < n) unclosed += "<|im_en";
  while (accents.size() < n) accents += "\u0301";
  texts.insert(texts.end(), {letters, unclosed, accents});
  for (const std::string& text : texts) {
    const auto ids = tokenizer()->encode(text, {.parse_special = true});
    ASSERT_EQ(tokenizer()->decode(ids, false), text);
  }
}

TEST_F(DefaultTokenizer, ManyThreadsAtOnceGetTheSame) {
  std::mt19937 random(65);
  std::vector<std::string> texts;
  std::vector<std::vector<TokenId>> expected;
  for (int i = 0; i < 50; ++i) {
    texts.push_back(random_text(random, 200));
    expected.push_back(tokenizer()->encode(texts.back()));
  }
  std::vector<std::thread> threads;
  std::atomic<int> different = 0;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i) different += tokenizer()->encode(texts[i]) != expected[i];
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(different, 0);
}

}  // namespace
}  // namespace crible
