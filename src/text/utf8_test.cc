#include "text/utf8.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace crible {
namespace {

// The definition, from the other side: decode by the bit layout and accept what encodes back to the
// same bytes and is a scalar value.
size_t length_by_definition(const std::string& s) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(s[i]); };
  const uint8_t first = byte(0);
  const size_t length = first < 0x80       ? 1
                        : first >> 5 == 6  ? 2
                        : first >> 4 == 14 ? 3
                        : first >> 3 == 30 ? 4
                                           : 0;
  if (length == 0 || s.size() < length) return 0;
  uint32_t value = length == 1 ? first : first & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    if (byte(i) >> 6 != 2) return 0;
    value = value << 6 | (byte(i) & 0x3F);
  }
  const size_t shortest = value < 0x80 ? 1 : value < 0x800 ? 2 : value < 0x10000 ? 3 : 4;
  if (shortest != length || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF)) return 0;
  return length;
}

// Whether some continuation makes bytes a well-formed sequence longer than they are.
bool may_be_completed(std::string bytes) {
  if (bytes.size() > 3) return false;
  for (const char next : {'\x80', '\x90', '\x9F', '\xA0', '\xBF'}) {
    const std::string longer = bytes + next;
    if (length_by_definition(longer) == longer.size() || may_be_completed(longer)) return true;
  }
  return false;
}

// Replacement by maximal subparts (Unicode 15, section 3.9, U+FFFD substitution).
std::string replaced_by_definition(std::string_view bytes) {
  std::string out;
  while (!bytes.empty()) {
    const size_t length = length_by_definition(std::string(bytes.substr(0, 4)));
    if (length > 0) {
      out += bytes.substr(0, length);
      bytes.remove_prefix(length);
      continue;
    }
    size_t subpart = 1;
    while (subpart < bytes.size() && may_be_completed(std::string(bytes.substr(0, subpart + 1)))) ++subpart;
    out += kReplacementCharacter;
    bytes.remove_prefix(subpart);
  }
  return out;
}

std::string random_bytes(std::mt19937& random, size_t size) {
  // Mostly bytes that matter to the decoder's edges, so that near misses are frequent.
  constexpr uint8_t kEdges[] = {0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                                0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
  std::string bytes;
  for (size_t i = 0; i < size; ++i) {
    bytes.push_back(static_cast<char>(random() % 4 ? kEdges[random() % std::size(kEdges)] : random()));
  }
  return bytes;
}

TEST(Utf8, SequenceLengthEqualsDefinitionForAllShortStrings) {
  std::string s(3, '\0');
  for (unsigned a = 0; a < 256; ++a) {
    for (unsigned b = 0; b < 256; ++b) {
      for (unsigned c = 0; c < 256; c += a < 0xE0 ? 17 : 1) {
        s[0] = static_cast<char>(a);
        s[1] = static_cast<char>(b);
        s[2] = static_cast<char>(c);
        ASSERT_EQ(utf8_sequence_length(s), length_by_definition(s)) << a << " " << b << " " << c;
      }
    }
  }
  EXPECT_EQ(utf8_sequence_length(""), 0u);
}

TEST(Utf8, SequenceLengthEqualsDefinitionForFourBytes) {
  std::mt19937 random(1);
  for (int i = 0; i < 300000; ++i) {
    std::string s = random_bytes(random, 4);
    s[0] = static_cast<char>(0xF0 + i % 8);
    ASSERT_EQ(utf8_sequence_length(s), length_by_definition(s));
    ASSERT_EQ(utf8_sequence_length(s.substr(0, 3)), 0u);
  }
}

TEST(Utf8, ExampleOfTheStandard) {
  // Unicode 15, table 3-8.
  std::string out;
  Utf8Stream stream;
  stream.push("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", out);
  stream.flush(out);
  EXPECT_EQ(out, "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd");
}

TEST(Utf8, StreamReplacesMaximalSubpartsHoweverItIsCut) {
  std::mt19937 random(2);
  for (int i = 0; i < 20000; ++i) {
    const std::string bytes = random_bytes(random, random() % 24);
    std::string out;
    Utf8Stream stream;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = std::min<size_t>(random() % 4, bytes.size() - at);
      stream.push(std::string_view(bytes).substr(at, size), out);
      at += size;
      ASSERT_TRUE(is_valid_utf8(out));
      ASSERT_LE(stream.held_bytes(), 3u);
    }
    stream.flush(out);
    EXPECT_EQ(stream.held_bytes(), 0u);
    ASSERT_EQ(out, replaced_by_definition(bytes));
  }
}

TEST(Utf8, ValidityAndRepairAgree) {
  std::mt19937 random(3);
  size_t valid = 0;
  for (int i = 0; i < 20000; ++i) {
    const std::string bytes = random_bytes(random, random() % 6) + std::string(random() % 12, 'x');
    const std::string repaired = replace_invalid_bytes(bytes);
    ASSERT_TRUE(is_valid_utf8(repaired));
    ASSERT_EQ(is_valid_utf8(bytes), repaired == bytes);
    valid += repaired == bytes;
  }
  EXPECT_GT(valid, 1000u);
  EXPECT_EQ(replace_invalid_bytes("a\xE2\x82"
                                  "b"),
            "a\uFFFD\uFFFDb");  // one for each byte
}

}  // namespace
}  // namespace crible
