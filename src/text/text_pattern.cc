#include "text/text_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/check.h"
#include "text/utf8.h"

namespace crible {

void TextPattern::CodeDeleter::operator()(pcre2_code* code) const {
  pcre2_code_free(code);
}
void TextPattern::ContextDeleter::operator()(pcre2_match_context* context) const {
  pcre2_match_context_free(context);
}
void PatternScanner::DataDeleter::operator()(pcre2_match_data* data) const {
  pcre2_match_data_free(data);
}

Result<TextPattern> TextPattern::compile(const std::string& source, uint32_t match_steps) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  TextPattern pattern;
  // UCP is left off: patterns name Unicode properties themselves, and \p needs only UTF.
  // Multi-line: ^ and $ stand at line ends, as in the dialect of tokenizer files.
  pattern.code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(),
                                    PCRE2_UTF | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset,
                                    nullptr));
  if (pattern.code_ == nullptr) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(error, message, sizeof(message));
    return fail(ErrorCode::kInvalidArgument, "regular expression \"{}\": {} at byte {}",
                replace_invalid_bytes(source.substr(0, 200)), reinterpret_cast<const char*>(message), offset);
  }
  // Without JIT (a build or a policy that forbids it) matching works the same, only slower.
  pcre2_jit_compile(pattern.code_.get(), PCRE2_JIT_COMPLETE);
  pattern.context_.reset(pcre2_match_context_create(nullptr));
  CHECK(pattern.context_ != nullptr);
  pcre2_set_match_limit(pattern.context_.get(), match_steps);
  return pattern;
}

std::string quote_pattern(std::string_view text) {
  std::string quoted;
  for (const char c : text) {
    const bool special = std::string_view("\\^$.[]|()?*+{}-#&~/ ").find(c) != std::string_view::npos;
    if (c == '\0') {
      quoted += "\\x{0}";
      continue;
    }
    if (special) quoted += '\\';
    quoted += c;
  }
  return quoted;
}

// A match needs one pair of offsets.
PatternScanner::PatternScanner() : data_(pcre2_match_data_create(1, nullptr)) {
  CHECK(data_ != nullptr);
}

PatternScanner::Match PatternScanner::next(const TextPattern& pattern, std::string_view text, size_t from) {
  // The text was checked to be UTF-8 and `from` stands on a character.
  constexpr uint32_t kOptions = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
  const int rc = pcre2_match(pattern.code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                             from, kOptions, data_.get(), pattern.context_.get());
  if (rc < 0) return {text.size(), text.size()};
  const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data_.get());
  // \K may move the begin behind the end or before `from`; such a match is none.
  if (offsets[0] < from || offsets[1] <= offsets[0]) return {text.size(), text.size()};
  return {offsets[0], offsets[1]};
}

}  // namespace crible
