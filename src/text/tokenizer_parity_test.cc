// Token ids equal llama.cpp's, and word boundaries those of Hugging Face tokenizers, on the strings
// of tests/golden/tokenizer_parity.bin (made by tools/make_tokenizer_golden.py, which describes the
// layout).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/atomic_file.h"
#include "text/gguf_vocabulary.h"
#include "text/golden_reader.h"
#include "text/tokenizer.h"

namespace crible {
namespace {

enum class ColumnKind : uint8_t { kIds, kIdsWithSpecial, kWordLengths };
struct Column {
  std::string pre_tokenizer;
  ColumnKind kind = ColumnKind::kIds;
};
struct Golden {
  std::vector<Column> columns;
  std::vector<std::string> strings;
  std::vector<std::vector<uint32_t>> hashes;  // [string][column]
};

Golden read_golden() {
  const auto file = read_file(CRIBLE_SOURCE_DIR "/tests/golden/tokenizer_parity.bin");
  if (!file) throw std::runtime_error(file.error().message);
  GoldenReader reader(*file);
  if (reader.take(4) != "CRTG") throw std::runtime_error("not a golden file");
  Golden golden;
  golden.columns.resize(reader.take_u32());
  for (Column& column : golden.columns) {
    column.pre_tokenizer = reader.take(reader.take_u8());
    column.kind = static_cast<ColumnKind>(reader.take_u8());
  }
  golden.strings.resize(reader.take_u32());
  for (std::string& text : golden.strings) {
    text = reader.take(reader.take_u32());
    auto& hashes = golden.hashes.emplace_back();
    for (size_t i = 0; i < golden.columns.size(); ++i) hashes.push_back(reader.take_u32());
  }
  if (!reader.at_end()) throw std::runtime_error("golden file is too long");
  return golden;
}

// Compares one column; own(text) is what this project makes of a string.
template <typename Own>
void expect_column(const Golden& golden, size_t column, const Own& own) {
  size_t different = 0;
  size_t compared = 0;
  for (size_t i = 0; i < golden.strings.size(); ++i) {
    const std::string& text = golden.strings[i];
    if (golden.columns[column].kind == ColumnKind::kWordLengths && golden.hashes[i][column] == 0) continue;
    ++compared;
    const std::vector<int32_t> numbers = own(text);
    if (hash_numbers(numbers) == golden.hashes[i][column]) continue;
    if (++different <= 5) {
      ADD_FAILURE() << golden.columns[column].pre_tokenizer << ", string " << i << ": \"" << text
                    << "\" gave " << testing::PrintToString(numbers);
    }
  }
  EXPECT_EQ(different, 0u) << "of " << compared << " under " << golden.columns[column].pre_tokenizer;
  EXPECT_GE(compared, golden.columns[column].kind == ColumnKind::kWordLengths ? 9000u : 10000u);
}

TEST(TokenizerParity, IdsEqualLlamaCpp) {
  const Golden golden = read_golden();
  const auto file = GgufFile::open(CRIBLE_SOURCE_DIR "/models/default.gguf");
  ASSERT_TRUE(file) << file.error().message;
  auto vocabulary = read_gguf_vocabulary(*file);
  ASSERT_TRUE(vocabulary) << vocabulary.error().message;
  size_t columns = 0;
  for (size_t column = 0; column < golden.columns.size(); ++column) {
    const auto& [pre_tokenizer, kind] = golden.columns[column];
    if (kind == ColumnKind::kWordLengths) continue;
    ++columns;
    vocabulary->pre_tokenizer = pre_tokenizer;
    const auto tokenizer = Tokenizer::from_vocabulary(*vocabulary);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    const EncodeOptions options{.parse_special = kind == ColumnKind::kIdsWithSpecial};
    expect_column(golden, column,
                  [&](const std::string& text) { return (*tokenizer)->encode(text, options); });
  }
  EXPECT_EQ(columns, 9u);
}

TEST(TokenizerParity, WordsEqualHuggingFaceTokenizers) {
  const Golden golden = read_golden();
  size_t columns = 0;
  for (size_t column = 0; column < golden.columns.size(); ++column) {
    const auto& [name, kind] = golden.columns[column];
    if (kind != ColumnKind::kWordLengths) continue;
    ++columns;
    const auto pre_tokenizer = PreTokenizer::make(name);
    ASSERT_TRUE(pre_tokenizer) << pre_tokenizer.error().message;
    WordList list;
    expect_column(golden, column, [&](const std::string& text) {
      list.words.clear();
      pre_tokenizer->split(text, true, list);
      std::vector<int32_t> lengths;
      for (const std::string_view word : list.words) lengths.push_back(static_cast<int32_t>(word.size()));
      return lengths;
    });
  }
  EXPECT_EQ(columns, 3u);
}

}  // namespace
}  // namespace crible
