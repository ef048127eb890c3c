#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <random>

namespace crible {
namespace {

class DetokenizerTest : public testing::Test {
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

TEST_F(DetokenizerTest, PiecesOfAnyTokenStreamJoinToTheWholeDecode) {
  std::mt19937 random(51);
  // Single bytes and pieces of characters have low ids; they are drawn often.
  const auto random_token = [&] {
    return static_cast<TokenId>(random() % (random() % 2 ? 300 : tokenizer()->vocabulary_size()));
  };
  size_t replaced = 0;
  for (int round = 0; round < 3000; ++round) {
    const bool skip_special = round % 2;
    std::vector<TokenId> ids(random() % 30);
    for (TokenId& id : ids) id = random_token();
    Detokenizer detokenizer(tokenizer(), skip_special);
    std::string joined;
    for (const TokenId id : ids) {
      const std::string piece = detokenizer.push(id);
      ASSERT_TRUE(is_valid_utf8(piece));
      joined += piece;
    }
    joined += detokenizer.flush();
    ASSERT_EQ(joined, tokenizer()->decode(ids, skip_special));
    replaced += joined.find(kReplacementCharacter) != std::string::npos;
  }
  EXPECT_GT(replaced, 500u);
}

TEST_F(DetokenizerTest, EmitsACharacterWithTheTokenThatCompletesIt) {
  const std::string text = "👩‍🚀 é 漢";
  const auto ids = tokenizer()->encode(text);
  Detokenizer detokenizer(tokenizer(), true);
  std::string bytes;
  std::string out;
  for (const TokenId id : ids) {
    bytes += tokenizer()->token_bytes(id);
    detokenizer.push(id, out);
    // Everything except an unfinished last character is out.
    size_t complete = bytes.size();
    while (!is_valid_utf8(std::string_view(bytes).substr(0, complete))) --complete;
    ASSERT_EQ(out, bytes.substr(0, complete));
  }
  EXPECT_EQ(out, text);
  EXPECT_EQ(detokenizer.flush(), "");
}

TEST_F(DetokenizerTest, AnUnfinishedCharacterEndsAsOneReplacement) {
  auto ids = tokenizer()->encode("🐍");
  ASSERT_GT(ids.size(), 1u);
  ids.pop_back();
  Detokenizer detokenizer(tokenizer(), true);
  std::string out;
  for (const TokenId id : ids) detokenizer.push(id, out);
  EXPECT_EQ(out, "");
  EXPECT_EQ(detokenizer.flush(), kReplacementCharacter);
  EXPECT_EQ(detokenizer.flush(), "");
}

TEST_F(DetokenizerTest, SpecialTokensAreShownOrSkipped) {
  const auto ids = tokenizer()->encode("a<|im_end|>b", {.parse_special = true});
  ASSERT_EQ(ids.size(), 3u);
  std::string shown, skipped;
  Detokenizer showing(tokenizer(), false), skipping(tokenizer(), true);
  for (const TokenId id : ids) {
    showing.push(id, shown);
    skipping.push(id, skipped);
  }
  EXPECT_EQ(shown, "a<|im_end|>b");
  EXPECT_EQ(skipped, "ab");
}

}  // namespace
}  // namespace crible
