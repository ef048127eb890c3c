// Token ids equal llama.cpp's on the strings of tests/golden/tokenizer_parity.bin
// (made by tools/make_tokenizer_golden.py, which describes the layout).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "base/atomic_file.h"
#include "text/gguf_vocabulary.h"
#include "text/tokenizer.h"

namespace crible {
namespace {

struct Column {
  std::string pre_tokenizer;
  bool parse_special = false;
};
struct Golden {
  std::vector<Column> columns;
  std::vector<std::string> strings;
  std::vector<std::vector<uint32_t>> hashes;  // [string][column]
};

class GoldenReader {
 public:
  explicit GoldenReader(std::string_view bytes) : bytes_(bytes) {}
  std::string_view take(size_t size) {
    if (size > bytes_.size()) throw std::runtime_error("golden file is cut short");
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  uint32_t take_u32() {
    uint32_t value;
    std::memcpy(&value, take(4).data(), 4);
    return value;
  }
  uint8_t take_u8() { return static_cast<uint8_t>(take(1)[0]); }
  bool at_end() const { return bytes_.empty(); }

 private:
  std::string_view bytes_;
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
    column.parse_special = reader.take_u8() != 0;
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

uint32_t hash_ids(const std::vector<TokenId>& ids) {
  uint64_t value = 0xCBF29CE484222325ull;
  for (const TokenId id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ ((static_cast<uint32_t>(id) >> shift) & 0xFF)) * 0x100000001B3ull;
    }
  }
  return static_cast<uint32_t>(value >> 32) ^ static_cast<uint32_t>(value);
}

TEST(TokenizerParity, EqualsLlamaCpp) {
  const Golden golden = read_golden();
  ASSERT_GE(golden.strings.size(), 10000u);
  const auto file = GgufFile::open(CRIBLE_SOURCE_DIR "/models/default.gguf");
  ASSERT_TRUE(file) << file.error().message;
  auto vocabulary = read_gguf_vocabulary(*file);
  ASSERT_TRUE(vocabulary) << vocabulary.error().message;
  for (size_t column = 0; column < golden.columns.size(); ++column) {
    const auto& [pre_tokenizer, parse_special] = golden.columns[column];
    vocabulary->pre_tokenizer = pre_tokenizer;
    const auto tokenizer = Tokenizer::from_vocabulary(*vocabulary);
    ASSERT_TRUE(tokenizer) << tokenizer.error().message;
    size_t different = 0;
    for (size_t i = 0; i < golden.strings.size(); ++i) {
      const auto ids = (*tokenizer)->encode(golden.strings[i], {.parse_special = parse_special});
      if (hash_ids(ids) == golden.hashes[i][column]) continue;
      if (++different <= 5) {
        ADD_FAILURE() << pre_tokenizer << ", string " << i << ": \"" << golden.strings[i] << "\" gave "
                      << testing::PrintToString(ids);
      }
    }
    EXPECT_EQ(different, 0u) << "of " << golden.strings.size() << " under " << pre_tokenizer;
  }
}

}  // namespace
}  // namespace crible
