// Token ids and decoded text equal those of Hugging Face tokenizers (tokenizer.json, in the
// configurations of the families of models) and of llama.cpp (SentencePiece vocabularies in GGUF) on
// the strings of tests/golden/tokenizer_json.bin, made by tools/make_tokenizer_json_golden.py, which
// describes the layout. CRIBLE_TOKENIZER_GOLDEN names another such file.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/atomic_file.h"
#include "text/golden_reader.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace crible {
namespace {

struct Case {
  std::string name;
  bool is_gguf = false;
  std::string content;
};

Result<std::shared_ptr<const Tokenizer>> load(const Case& golden) {
  if (!golden.is_gguf) {
    CRIBLE_TRY(TokenizerParts parts, read_tokenizer_json(golden.content, golden.name));
    return Tokenizer::make(std::move(parts));
  }
  const auto path =
      std::filesystem::temp_directory_path() / ("crible_golden_" + std::to_string(::getpid()) + ".gguf");
  std::ofstream(path, std::ios::binary) << golden.content;
  const auto file = GgufFile::open(path);
  std::filesystem::remove(path);
  if (!file) return tl::unexpected<Error>(file.error());
  return Tokenizer::from_gguf(*file);
}

TEST(TokenizerJsonParity, IdsAndTextEqualOtherLibraries) {
  const char* other = std::getenv("CRIBLE_TOKENIZER_GOLDEN");
  const auto file =
      read_file(other != nullptr ? other : CRIBLE_SOURCE_DIR "/tests/golden/tokenizer_json.bin");
  ASSERT_TRUE(file) << file.error().message;
  GoldenReader reader(*file);
  ASSERT_EQ(reader.take(4), "CRTJ");
  std::vector<Case> cases(reader.take_u32());
  std::vector<std::shared_ptr<const Tokenizer>> tokenizers;
  for (Case& golden : cases) {
    golden.name = reader.take(reader.take_u8());
    golden.is_gguf = reader.take_u8() == 1;
    golden.content = reader.take(reader.take_u32());
    auto tokenizer = load(golden);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    tokenizers.push_back(*tokenizer);
  }
  EXPECT_GE(cases.size(), other == nullptr ? 14u : 1u);
  std::vector<size_t> compared(cases.size()), different(cases.size());
  const uint32_t strings = reader.take_u32();
  for (uint32_t i = 0; i < strings; ++i) {
    const std::string text(reader.take(reader.take_u32()));
    for (size_t c = 0; c < cases.size(); ++c) {
      const uint32_t expected = reader.take_u32();
      if (expected == 0) continue;
      ++compared[c];
      const std::vector<TokenId> with =
          tokenizers[c]->encode(text, {.add_special = true, .parse_special = true});
      const std::vector<TokenId> without = tokenizers[c]->encode(text);
      std::vector<int32_t> numbers = with;
      numbers.push_back(-1);
      numbers.insert(numbers.end(), without.begin(), without.end());
      numbers.push_back(-1);
      const std::string decoded = tokenizers[c]->decode(cases[c].is_gguf ? without : with, false);
      for (const char byte : decoded) numbers.push_back(static_cast<uint8_t>(byte));
      if (crc32_numbers(numbers) == expected) continue;
      if (++different[c] <= 3) {
        ADD_FAILURE() << cases[c].name << ", string " << i << ": " << testing::PrintToString(text) << " gave "
                      << testing::PrintToString(numbers);
      }
    }
  }
  EXPECT_TRUE(reader.at_end());
  for (size_t c = 0; c < cases.size(); ++c) {
    EXPECT_EQ(different[c], 0u) << "of " << compared[c] << " under " << cases[c].name;
    EXPECT_GE(compared[c], strings * 3 / 4) << cases[c].name;
  }
}

}  // namespace
}  // namespace crible
