// UTF-8 as the Unicode standard defines it (chapter 3, table 3-7): no overlong forms, no surrogates,
// nothing above U+10FFFF. Two ways to repair: byte by byte (what goes into a tokenizer) and by
// maximal subpart (what comes out of one, the way Python's errors="replace" does it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace crible {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the well-formed sequence that starts at text[0]; 0 when there is none.
size_t utf8_sequence_length(std::string_view text);

bool is_valid_utf8(std::string_view text);

// Every byte that belongs to no well-formed sequence becomes one U+FFFD.
std::string replace_invalid_bytes(std::string_view text);

// Turns a byte stream that arrives in arbitrary pieces into valid UTF-8. A sequence that may still
// be completed is held back (at most 3 bytes); one that cannot be becomes U+FFFD, one for each
// maximal subpart. Not thread-safe: one stream, one owner.
class Utf8Stream {
 public:
  void push(std::string_view bytes, std::string& out);
  // Ends the stream: what is held back can no longer be completed.
  void flush(std::string& out);
  size_t held_bytes() const { return held_size_; }

 private:
  char held_[4] = {};
  uint8_t held_size_ = 0;
  uint8_t remaining_ = 0;  // continuation bytes that the held sequence still needs
  uint8_t low_ = 0x80;     // range of the next continuation byte
  uint8_t high_ = 0xBF;
};

}  // namespace crible
