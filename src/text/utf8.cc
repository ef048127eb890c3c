#include "text/utf8.h"

#include <cstring>

namespace crible {
namespace {

// What a lead byte promises: how many continuation bytes follow, and the range of the first of them
// (narrower than 80..BF where overlong forms, surrogates or values above U+10FFFF would begin).
struct Lead {
  uint8_t continuations;
  uint8_t low;
  uint8_t high;
  bool valid;
};

constexpr Lead classify_lead(uint8_t byte) {
  if (byte < 0x80) return {0, 0, 0, true};
  if (byte < 0xC2) return {0, 0, 0, false};
  if (byte < 0xE0) return {1, 0x80, 0xBF, true};
  if (byte == 0xE0) return {2, 0xA0, 0xBF, true};
  if (byte == 0xED) return {2, 0x80, 0x9F, true};
  if (byte < 0xF0) return {2, 0x80, 0xBF, true};
  if (byte == 0xF0) return {3, 0x90, 0xBF, true};
  if (byte < 0xF4) return {3, 0x80, 0xBF, true};
  if (byte == 0xF4) return {3, 0x80, 0x8F, true};
  return {0, 0, 0, false};
}

// Length of the ASCII run at the start of text, eight bytes at a time.
size_t ascii_prefix(std::string_view text) {
  size_t i = 0;
  while (i + 8 <= text.size()) {
    uint64_t word;
    std::memcpy(&word, text.data() + i, 8);
    if (word & 0x8080808080808080ull) break;
    i += 8;
  }
  while (i < text.size() && static_cast<uint8_t>(text[i]) < 0x80) ++i;
  return i;
}

}  // namespace

size_t utf8_sequence_length(std::string_view text) {
  if (text.empty()) return 0;
  const Lead lead = classify_lead(static_cast<uint8_t>(text[0]));
  if (!lead.valid || text.size() <= lead.continuations) return 0;
  uint8_t low = lead.low;
  uint8_t high = lead.high;
  for (size_t i = 1; i <= lead.continuations; ++i) {
    const uint8_t byte = static_cast<uint8_t>(text[i]);
    if (byte < low || byte > high) return 0;
    low = 0x80;
    high = 0xBF;
  }
  return lead.continuations + size_t{1};
}

bool is_valid_utf8(std::string_view text) {
  for (;;) {
    text.remove_prefix(ascii_prefix(text));
    if (text.empty()) return true;
    const size_t length = utf8_sequence_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
}

std::string replace_invalid_bytes(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t length = utf8_sequence_length(text);
    if (length == 0) {
      out.append(kReplacementCharacter);
      text.remove_prefix(1);
    } else {
      out.append(text.substr(0, length));
      text.remove_prefix(length);
    }
  }
  return out;
}

void Utf8Stream::push(std::string_view bytes, std::string& out) {
  while (!bytes.empty()) {
    if (held_size_ == 0) {
      const size_t ascii = ascii_prefix(bytes);
      out.append(bytes.substr(0, ascii));
      bytes.remove_prefix(ascii);
      if (bytes.empty()) return;
      const uint8_t byte = static_cast<uint8_t>(bytes[0]);
      bytes.remove_prefix(1);
      const Lead lead = classify_lead(byte);
      if (!lead.valid) {
        out.append(kReplacementCharacter);
        continue;
      }
      held_[held_size_++] = static_cast<char>(byte);
      remaining_ = lead.continuations;
      low_ = lead.low;
      high_ = lead.high;
      continue;
    }
    const uint8_t byte = static_cast<uint8_t>(bytes[0]);
    if (byte < low_ || byte > high_) {
      // The held part is a maximal subpart; this byte begins something new and is looked at again.
      flush(out);
      continue;
    }
    bytes.remove_prefix(1);
    held_[held_size_++] = static_cast<char>(byte);
    low_ = 0x80;
    high_ = 0xBF;
    if (--remaining_ == 0) {
      out.append(held_, held_size_);
      held_size_ = 0;
    }
  }
}

void Utf8Stream::flush(std::string& out) {
  if (held_size_ == 0) return;
  out.append(kReplacementCharacter);
  held_size_ = 0;
  remaining_ = 0;
}

}  // namespace crible
