// A compiled regular expression over valid UTF-8 (PCRE2), and the search for its matches. Immutable
// once compiled, safe to share between threads; a PatternScanner belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct pcre2_real_code_8;
struct pcre2_real_match_context_8;
struct pcre2_real_match_data_8;

namespace crible {

class TextPattern {
 public:
  // source: PCRE2 syntax; \s, \d, \w and POSIX classes mean ASCII only, so rules name Unicode
  // properties. match_steps: backtracking steps of one match, see PatternScanner.
  // kInvalidArgument with the place when it does not compile.
  static Result<TextPattern> compile(const std::string& source, uint32_t match_steps);

 private:
  friend class PatternScanner;
  struct CodeDeleter {
    void operator()(pcre2_real_code_8* code) const;
  };
  struct ContextDeleter {
    void operator()(pcre2_real_match_context_8* context) const;
  };

  std::unique_ptr<pcre2_real_code_8, CodeDeleter> code_;
  std::unique_ptr<pcre2_real_match_context_8, ContextDeleter> context_;
};

// The text as a pattern that matches it literally.
std::string quote_pattern(std::string_view text);

class PatternScanner {
 public:
  PatternScanner();

  struct Match {
    size_t begin;
    size_t end;
  };
  // The next non-empty match in text at or after `from`, which stands on a character;
  // {size, size} when there is none or when the matcher gives up at its step limit.
  Match next(const TextPattern& pattern, std::string_view text, size_t from);

 private:
  struct DataDeleter {
    void operator()(pcre2_real_match_data_8* data) const;
  };
  std::unique_ptr<pcre2_real_match_data_8, DataDeleter> data_;
};

}  // namespace crible
