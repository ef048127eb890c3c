#include "text/pre_tokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/check.h"

namespace crible {
namespace {

// Pieces of character classes. PCRE2 10.42 knows Unicode 14; the characters that 15.0 and 15.1 added
// are named here, so that the rules mean the same as for the tokenizers that models are used with.
#define CASELESS_LETTERS_15                                                                          \
  R"(\x{1123F}\x{11240}\x{11F02}\x{11F04}-\x{11F10}\x{11F12}-\x{11F33}\x{1342F}\x{13441}-\x{13446})" \
  R"(\x{1B132}\x{1B155}\x{1E030}-\x{1E06D}\x{1E4D0}-\x{1E4EB}\x{2B739}\x{2EBF0}-\x{2EE5D}\x{31350}-\x{323AF})"
#define LOWER_LETTERS_15 R"(\x{1DF25}-\x{1DF2A})"
#define MARKS                                                                     \
  R"(\p{M}\x{CF3}\x{ECE}\x{10EFD}-\x{10EFF}\x{11241}\x{11F00}\x{11F01}\x{11F03})" \
  R"(\x{11F34}-\x{11F3A}\x{11F3E}-\x{11F42}\x{13440}\x{13447}-\x{13455}\x{1E08F}\x{1E4EC}-\x{1E4EF})"
#define LETTERS R"(\p{L})" CASELESS_LETTERS_15 LOWER_LETTERS_15
#define UPPER_OR_CASELESS R"(\p{Lu}\p{Lt}\p{Lm}\p{Lo})" CASELESS_LETTERS_15 MARKS
#define LOWER_OR_CASELESS R"(\p{Ll}\p{Lm}\p{Lo})" CASELESS_LETTERS_15 LOWER_LETTERS_15 MARKS
#define NUMBERS R"(\p{N}\x{11F50}-\x{11F59}\x{1D2C0}-\x{1D2D3}\x{1E4F0}-\x{1E4F9})"
#define PUNCTUATION R"(\p{P}\x{11B00}-\x{11B09}\x{11F43}-\x{11F4F})"
#define SYMBOLS                                                                               \
  R"(\p{S}\x{2FFC}-\x{2FFF}\x{31EF}\x{1F6DC}\x{1F774}-\x{1F776}\x{1F77B}-\x{1F77F}\x{1F7D9})" \
  R"(\x{1FA75}-\x{1FA77}\x{1FA87}\x{1FA88}\x{1FAAD}-\x{1FAAF}\x{1FABB}-\x{1FABD}\x{1FABF})"   \
  R"(\x{1FACE}\x{1FACF}\x{1FADA}\x{1FADB}\x{1FAE8}\x{1FAF7}\x{1FAF8})"
// White_Space of the Unicode character database. PCRE2's own \s would add U+180E, which is no
// longer white space.
#define SPACES R"(\t-\r\x{85}\p{Z})"

// A run of spaces leaves its last one to the word that follows; at the end of the piece it is whole.
#define SPACE_RUN "[" SPACES "]+(?![^" SPACES "])|[" SPACES "]+"
#define LINE_BREAKS "[" SPACES R"(]*[\r\n]+)"
#define CONTRACTION_ANY_CASE "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"

// Sources: the pre_tokenizer sections of the models' tokenizer.json.
constexpr const char* kDigit = "[" NUMBERS "]";
constexpr const char* kDigits = "[" NUMBERS "]+";
constexpr const char* kUpToThreeDigits = "[" NUMBERS "]{1,3}";
constexpr const char* kThreeAsciiDigits = "[0-9]{3}";
constexpr const char* kGpt2 =
    "'(?:[stmd]|re|ve|ll)| ?[" LETTERS "]+| ?[" NUMBERS "]+| ?[^" SPACES LETTERS NUMBERS "]+|" SPACE_RUN;

// Llama 3 and its relatives differ in what a word may hold and in how many digits go together.
#define LLAMA_LIKE(WORD, NUMBER)                                                                        \
  CONTRACTION_ANY_CASE R"(|[^\r\n)" LETTERS NUMBERS "]?[" WORD "]+|" NUMBER "| ?[^" SPACES WORD NUMBERS \
                       R"(]+[\r\n]*|)" LINE_BREAKS "|" SPACE_RUN
constexpr const char* kLlama3 = LLAMA_LIKE(LETTERS, "[" NUMBERS "]{1,3}");
constexpr const char* kQwen2 = LLAMA_LIKE(LETTERS, "[" NUMBERS "]");
constexpr const char* kQwen35 = LLAMA_LIKE(LETTERS MARKS, "[" NUMBERS "]");

// GPT-4o and Tekken also cut where lower case changes to upper.
#define CASE_AWARE(SUFFIX, NUMBER)                                                                    \
  R"([^\r\n)" LETTERS NUMBERS "]?[" UPPER_OR_CASELESS "]*[" LOWER_OR_CASELESS "]+" SUFFIX             \
  R"(|[^\r\n)" LETTERS NUMBERS "]?[" UPPER_OR_CASELESS "]+[" LOWER_OR_CASELESS "]*" SUFFIX "|" NUMBER \
  "| ?[^" SPACES LETTERS NUMBERS R"(]+[\r\n/]*|)" LINE_BREAKS "|" SPACE_RUN
constexpr const char* kGpt4o = CASE_AWARE("(?:" CONTRACTION_ANY_CASE ")?", "[" NUMBERS "]{1,3}");
constexpr const char* kTekken = CASE_AWARE("", "[" NUMBERS "]");

constexpr const char* kDeepseekCjk = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+)";
constexpr const char* kDeepseekWords =
    R"([!-/:-@\[-`{-~][A-Za-z]+|[^\r\n)" LETTERS PUNCTUATION SYMBOLS "]?[" LETTERS MARKS
    "]+| ?[" PUNCTUATION SYMBOLS R"(]+[\r\n]*|)" LINE_BREAKS "|" SPACE_RUN;

constexpr const char* kFalconPunctuation = "[" PUNCTUATION "$+<=>^~|`]+";
constexpr const char* kDefaultPunctuation = "[" PUNCTUATION "$+<=>^~|]+";

struct Rule {
  std::string_view name;
  std::array<const char*, 4> patterns;  // unused places are null
  bool ignore_merges = false;
  bool add_bos = false;
};

constexpr Rule kRules[] = {
    {"a.x-4.0", {kGpt2}},
    {"chatglm-bpe", {kLlama3}},
    {"codeshell", {kDigit, kGpt2}},
    {"command-r", {kDigit, kGpt2}},
    {"dbrx", {kLlama3}},
    {"deepseek-r1-qwen", {kQwen2}},
    {"deepseek-v3", {kUpToThreeDigits, kDeepseekCjk, kDeepseekWords}},
    {"default", {kDefaultPunctuation, kGpt2, kDigits, kThreeAsciiDigits}},
    {"exaone", {kDigit, kGpt2}},
    {"falcon", {kFalconPunctuation, kGpt2, kThreeAsciiDigits}},
    {"falcon-h1", {kLlama3}, true, true},
    {"falcon3", {kLlama3}, true, true},
    {"gigachat", {kGpt2}},
    {"glm4", {kLlama3}, true},
    {"glm5", {kLlama3}, true},
    {"gpt-2", {kGpt2}},
    {"gpt-4o", {kGpt4o}},
    {"granite-docling", {kGpt2}},
    {"grok-2", {kQwen2}},
    {"hunyuan", {kQwen2}},
    {"jais", {kGpt2}},
    {"lfm2", {kLlama3}, true, true},
    {"llama-bpe", {kLlama3}, true, true},
    {"llama-v3", {kLlama3}, true, true},
    {"llama3", {kLlama3}, true, true},
    {"llama4", {kGpt4o}},
    {"megrez", {kQwen2}},
    {"midm-2.0", {kLlama3}, true, true},
    {"minerva-7b", {kDigit, kGpt2}},
    {"modern-bert", {kGpt2}},
    {"mpt", {kGpt2}},
    {"olmo", {kGpt2}},
    {"phi-2", {kGpt2}},
    {"pixtral", {kLlama3}, true, true},
    {"qwen2", {kQwen2}},
    {"qwen35", {kQwen35}},
    {"refact", {kDigit, kGpt2}},
    {"smaug-bpe", {kLlama3}},
    {"smollm", {kDigit, kGpt2}},
    {"stablelm2", {kQwen2}},
    {"starcoder", {kDigit, kGpt2}},
    {"tekken", {kTekken}, true, true},
    {"trillion", {kGpt2}},
};

struct CodeDeleter {
  void operator()(pcre2_code* code) const { pcre2_code_free(code); }
};
struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

}  // namespace

struct PreTokenizer::Pattern {
  std::unique_ptr<pcre2_code, CodeDeleter> code;
  std::unique_ptr<pcre2_match_context, MatchContextDeleter> context;
};

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

std::vector<std::string_view> PreTokenizer::known_names() {
  std::vector<std::string_view> names;
  for (const Rule& rule : kRules) names.push_back(rule.name);
  return names;
}

Result<PreTokenizer> PreTokenizer::make(std::string_view name, PreTokenizerLimits limits) {
  const Rule* rule = std::ranges::find(kRules, name, &Rule::name);
  if (rule == std::end(kRules)) {
    return fail(ErrorCode::kUnsupported,
                "pre-tokenizer \"{}\" is not known to this build; known are {}. Splitting by another "
                "rule would change the model's results, so none is guessed",
                name, fmt::join(known_names(), ", "));
  }
  PreTokenizer result;
  result.ignore_merges_ = rule->ignore_merges;
  result.add_bos_by_default_ = rule->add_bos;
  for (const char* source : rule->patterns) {
    if (source == nullptr) break;
    int error = 0;
    PCRE2_SIZE offset = 0;
    Pattern pattern;
    // UCP is left off: the patterns name Unicode properties themselves, and \p needs only UTF.
    pattern.code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source), PCRE2_ZERO_TERMINATED, PCRE2_UTF,
                                     &error, &offset, nullptr));
    CHECK(pattern.code != nullptr, "rule {}: error {} at {} of {}", name, error, offset, source);
    // Without JIT (a build or a policy that forbids it) matching works the same, only slower.
    pcre2_jit_compile(pattern.code.get(), PCRE2_JIT_COMPLETE);
    pattern.context.reset(pcre2_match_context_create(nullptr));
    CHECK(pattern.context != nullptr);
    pcre2_set_match_limit(pattern.context.get(), limits.match_steps);
    result.patterns_.push_back(std::move(pattern));
  }
  return result;
}

namespace {

struct MatchRange {
  size_t begin;
  size_t end;
};

// The next non-empty match in piece at or after `from`; {size, size} when there is none or when the
// matcher gives up at a limit.
MatchRange next_match(const pcre2_code* code, pcre2_match_context* context, pcre2_match_data* data,
                      std::string_view piece, size_t from) {
  // The text was checked to be UTF-8 and `from` stands on a character.
  constexpr uint32_t kOptions = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(piece.data());
  const int rc = pcre2_match(code, subject, piece.size(), from, kOptions, data, context);
  if (rc < 0) return {piece.size(), piece.size()};
  const PCRE2_SIZE* ovector = pcre2_get_ovector_pointer(data);
  return {ovector[0], ovector[1]};
}

}  // namespace

void PreTokenizer::split(std::string_view text, std::vector<std::string_view>& words) const {
  if (text.empty()) return;
  const size_t first_word = words.size();
  words.push_back(text);
  // One match data per call keeps split const and free of locks; a match needs one pair of offsets.
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(pcre2_match_data_create(1, nullptr));
  CHECK(data != nullptr);
  std::vector<std::string_view> pieces;
  for (const Pattern& pattern : patterns_) {
    pieces.assign(words.begin() + static_cast<std::ptrdiff_t>(first_word), words.end());
    words.resize(first_word);
    for (const std::string_view piece : pieces) {
      for (size_t at = 0; at < piece.size();) {
        const MatchRange match = next_match(pattern.code.get(), pattern.context.get(), data.get(), piece, at);
        if (match.begin > at) words.push_back(piece.substr(at, match.begin - at));
        if (match.end > match.begin) words.push_back(piece.substr(match.begin, match.end - match.begin));
        at = match.end;
      }
    }
  }
}

}  // namespace crible
