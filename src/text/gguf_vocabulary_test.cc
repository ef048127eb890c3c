#include "text/gguf_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "text/tokenizer.h"

namespace crible {
namespace {

using testing::HasSubstr;

// Builds the bytes of a GGUF file that holds keys and no tensors.
class GgufBuilder {
 public:
  void add_string(const std::string& key, const std::string& value) {
    begin(key, kString);
    put_string(value);
  }
  void add_int(const std::string& key, int32_t value) {
    begin(key, kInt32);
    put(value);
  }
  void add_floats(const std::string& key, const std::vector<float>& values) {
    begin(key, kArray);
    put<uint32_t>(kFloat32);
    put<uint64_t>(values.size());
    for (const float value : values) put(value);
  }
  void add_bool(const std::string& key, bool value) {
    begin(key, kBool);
    put<uint8_t>(value);
  }
  void add_strings(const std::string& key, const std::vector<std::string>& values) {
    begin(key, kArray);
    put<uint32_t>(kString);
    put<uint64_t>(values.size());
    for (const std::string& value : values) put_string(value);
  }
  void add_ints(const std::string& key, const std::vector<int32_t>& values) {
    begin(key, kArray);
    put<uint32_t>(kInt32);
    put<uint64_t>(values.size());
    for (const int32_t value : values) put(value);
  }

  // A file of its own, gone with the object.
  GgufFile open() const {
    const auto path = std::filesystem::temp_directory_path() /
                      ("crible_vocabulary_" + std::to_string(::getpid()) + ".gguf");
    std::string header("GGUF\x03\0\0\0", 8);
    const uint64_t counts[2] = {0, count_};
    header.append(reinterpret_cast<const char*>(counts), sizeof(counts));
    std::ofstream(path, std::ios::binary) << header << bytes_;
    auto file = GgufFile::open(path);
    std::filesystem::remove(path);  // the mapping keeps the bytes
    if (!file) throw std::runtime_error(file.error().message);
    return *std::move(file);
  }

 private:
  static constexpr uint32_t kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9;  // GGUF value types

  void begin(const std::string& key, uint32_t type) {
    put_string(key);
    put(type);
    ++count_;
  }
  template <typename T>
  void put(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof(T));
  }
  void put_string(const std::string& value) {
    put<uint64_t>(value.size());
    bytes_ += value;
  }

  std::string bytes_;
  uint64_t count_ = 0;
};

// The keys of a small sound vocabulary, each replaceable or removable by a test.
struct Keys {
  std::optional<std::string> model = "gpt2";
  std::optional<std::string> pre = "gpt-2";
  std::optional<std::vector<std::string>> tokens = std::vector<std::string>{"a", "b", "ab", "<s>"};
  std::optional<std::vector<int32_t>> types = std::vector<int32_t>{1, 1, 1, 3};
  std::optional<std::vector<std::string>> merges = std::vector<std::string>{"a b"};
  std::optional<int32_t> bos = 3;
  std::optional<bool> add_bos = true;
  std::optional<std::vector<float>> scores;
  std::optional<bool> space_prefix, collapse;

  GgufFile file() const {
    GgufBuilder builder;
    if (model) builder.add_string("tokenizer.ggml.model", *model);
    if (pre) builder.add_string("tokenizer.ggml.pre", *pre);
    if (tokens) builder.add_strings("tokenizer.ggml.tokens", *tokens);
    if (types) builder.add_ints("tokenizer.ggml.token_type", *types);
    if (merges) builder.add_strings("tokenizer.ggml.merges", *merges);
    if (bos) builder.add_int("tokenizer.ggml.bos_token_id", *bos);
    if (add_bos) builder.add_bool("tokenizer.ggml.add_bos_token", *add_bos);
    if (scores) builder.add_floats("tokenizer.ggml.scores", *scores);
    if (space_prefix) builder.add_bool("tokenizer.ggml.add_space_prefix", *space_prefix);
    if (collapse) builder.add_bool("tokenizer.ggml.remove_extra_whitespaces", *collapse);
    return builder.open();
  }
  Error error() const {
    const auto vocabulary = read_gguf_vocabulary(file());
    EXPECT_FALSE(vocabulary);
    return vocabulary ? Error{} : vocabulary.error();
  }
};

TEST(GgufVocabulary, ReadsTheKeys) {
  const auto vocabulary = read_gguf_vocabulary(Keys().file());
  ASSERT_TRUE(vocabulary) << vocabulary.error().message;
  EXPECT_EQ(vocabulary->texts, (std::vector<std::string>{"a", "b", "ab", "<s>"}));
  EXPECT_EQ(vocabulary->kinds[3], TokenKind::kControl);
  EXPECT_EQ(vocabulary->merges, (std::vector<std::pair<std::string, std::string>>{{"a", "b"}}));
  EXPECT_EQ(vocabulary->pre_tokenizer, "gpt-2");
  EXPECT_EQ(vocabulary->bos, 3);
  EXPECT_EQ(vocabulary->eos, std::nullopt);
  EXPECT_EQ(vocabulary->add_bos, true);
  EXPECT_EQ(vocabulary->add_eos, std::nullopt);
}

TEST(GgufVocabulary, TheTokenizerOutlivesTheFile) {
  std::shared_ptr<const Tokenizer> tokenizer;
  {
    const GgufFile file = Keys().file();
    auto made = Tokenizer::from_gguf(file);
    ASSERT_TRUE(made) << made.error().message;
    tokenizer = *made;
  }
  EXPECT_EQ(tokenizer->encode("abab", {.add_special = true}), (std::vector<TokenId>{3, 2, 2}));
}

TEST(GgufVocabulary, WhatMayBeMissing) {
  Keys keys;
  keys.pre.reset();
  keys.types.reset();
  keys.bos.reset();
  keys.add_bos.reset();
  const auto vocabulary = read_gguf_vocabulary(keys.file());
  ASSERT_TRUE(vocabulary) << vocabulary.error().message;
  EXPECT_EQ(vocabulary->pre_tokenizer, "default");
  EXPECT_EQ(vocabulary->kinds, std::vector<TokenKind>(4, TokenKind::kNormal));
}

TEST(GgufVocabulary, WhatMayNot) {
  Keys keys;
  keys.model.reset();
  EXPECT_THAT(keys.error().message, HasSubstr("tokenizer.ggml.model"));
  keys = Keys();
  keys.tokens.reset();
  EXPECT_THAT(keys.error().message, HasSubstr("tokenizer.ggml.tokens"));
  keys = Keys();
  keys.merges.reset();
  EXPECT_THAT(keys.error().message, HasSubstr("tokenizer.ggml.merges"));
}

TEST(GgufVocabulary, AnotherModelIsUnsupported) {
  Keys keys;
  keys.model = "bert";
  EXPECT_EQ(keys.error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(keys.error().message, HasSubstr("\"bert\""));
}

TEST(GgufVocabulary, SentencePieceAsLlamaCppTakesIt) {
  Keys keys;
  keys.model = "llama";
  keys.merges.reset();
  keys.bos.reset();
  keys.add_bos.reset();
  EXPECT_THAT(keys.error().message, HasSubstr("tokenizer.ggml.scores"));
  keys.scores = std::vector<float>{-1, -2, -3};
  EXPECT_THAT(keys.error().message, HasSubstr("3 entries for 4 tokens"));
  keys.scores->push_back(0);
  auto vocabulary = read_gguf_vocabulary(keys.file());
  ASSERT_TRUE(vocabulary) << vocabulary.error().message;
  EXPECT_EQ(vocabulary->segmentation, Segmentation::kScoredMerges);
  EXPECT_EQ(vocabulary->scores, *keys.scores);
  EXPECT_TRUE(vocabulary->add_space_prefix);
  EXPECT_FALSE(vocabulary->collapse_spaces);
  EXPECT_EQ(vocabulary->unknown, 0);
  EXPECT_EQ(vocabulary->bos, 1);
  EXPECT_EQ(vocabulary->eos, 2);
  keys.space_prefix = false;
  keys.collapse = true;
  keys.bos = 3;
  vocabulary = read_gguf_vocabulary(keys.file());
  ASSERT_TRUE(vocabulary);
  EXPECT_FALSE(vocabulary->add_space_prefix);
  EXPECT_TRUE(vocabulary->collapse_spaces);
  EXPECT_EQ(vocabulary->bos, 3);
}

TEST(GgufVocabulary, MalformedValuesAreCorrupt) {
  const auto expect_corrupt = [](const Keys& keys, const char* reason) {
    EXPECT_EQ(keys.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(keys.error().message, HasSubstr(reason));
  };
  Keys keys;
  keys.tokens = std::vector<std::string>();
  expect_corrupt(keys, "is empty");
  for (const int32_t bad : {-1, 4, INT32_MAX}) {
    keys = Keys();
    keys.bos = bad;
    expect_corrupt(keys, "the vocabulary has ids 0 to 3");
  }
  keys = Keys();
  keys.types = std::vector<int32_t>{1, 1, 1};
  expect_corrupt(keys, "3 entries for 4 tokens");
  for (const int32_t bad : {-1, 7}) {
    keys = Keys();
    (*keys.types)[2] = bad;
    expect_corrupt(keys, "token_type[2]");
  }
  for (const char* bad : {"ab", "", " ", "a ", " b", "a b c", "a  b"}) {
    keys = Keys();
    keys.merges->push_back(bad);
    expect_corrupt(keys, "merges[1]");
  }
}

}  // namespace
}  // namespace crible
