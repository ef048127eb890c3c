#include "text/byte_alphabet.h"

#include <gtest/gtest.h>

#include <set>

#include "text/utf8.h"

namespace crible {
namespace {

TEST(ByteAlphabet, IsOneToOneAndPrintable) {
  std::set<uint32_t> code_points;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const uint32_t code_point = byte_to_code_point(static_cast<uint8_t>(byte));
    EXPECT_TRUE(code_points.insert(code_point).second);
    EXPECT_GT(code_point, 0x20u);
    EXPECT_FALSE(code_point >= 0x7F && code_point <= 0xA0);
    const std::string raw(1, static_cast<char>(byte));
    const std::string text = bytes_to_alphabet(raw);
    EXPECT_TRUE(is_valid_utf8(text));
    EXPECT_EQ(bytes_from_alphabet(text), raw);
  }
}

TEST(ByteAlphabet, KnownCharacters) {
  EXPECT_EQ(bytes_to_alphabet(" a\n"), "ĠaĊ");
  EXPECT_EQ(bytes_from_alphabet("Ġworld"), " world");
  EXPECT_EQ(bytes_to_alphabet("é"), "Ã©");
}

TEST(ByteAlphabet, RefusesWhatIsOutsideIt) {
  for (const char* text : {" ", "a b", "\n", "€", "ń" /* U+0144, the first above */, "\xC4", "Ġ\x80", "😀"}) {
    EXPECT_EQ(bytes_from_alphabet(text), std::nullopt) << text;
  }
  EXPECT_EQ(bytes_from_alphabet(""), "");
}

}  // namespace
}  // namespace crible
