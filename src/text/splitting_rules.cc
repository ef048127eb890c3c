#include "text/splitting_rules.h"

#include <algorithm>

#include "text/unicode_classes.h"

namespace crible {
namespace {

// A run of spaces leaves its last one to the word that follows; at the end of the piece it is whole.
#define SPACE_RUN "[" CRIBLE_SPACES "]+(?![^" CRIBLE_SPACES "])|[" CRIBLE_SPACES "]+"
#define LINE_BREAKS "[" CRIBLE_SPACES R"(]*[\r\n]+)"
#define CONTRACTION_ANY_CASE "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])"

// Sources: the pre_tokenizer sections of the models' tokenizer.json.
constexpr const char* kDigit = "[" CRIBLE_NUMBERS "]";
constexpr const char* kDigits = "[" CRIBLE_NUMBERS "]+";
constexpr const char* kUpToThreeDigits = "[" CRIBLE_NUMBERS "]{1,3}";
constexpr const char* kThreeAsciiDigits = "[0-9]{3}";
constexpr const char* kGpt2 = "'(?:[stmd]|re|ve|ll)| ?[" CRIBLE_LETTERS "]+| ?[" CRIBLE_NUMBERS
                              "]+| ?[^" CRIBLE_SPACES CRIBLE_LETTERS CRIBLE_NUMBERS "]+|" SPACE_RUN;

// Llama 3 and its relatives differ in what a word may hold and in how many digits go together.
#define LLAMA_LIKE(WORD, NUMBER)                                                          \
  CONTRACTION_ANY_CASE R"(|[^\r\n)" CRIBLE_LETTERS CRIBLE_NUMBERS "]?[" WORD "]+|" NUMBER \
                       "| ?[^" CRIBLE_SPACES WORD CRIBLE_NUMBERS R"(]+[\r\n]*|)" LINE_BREAKS "|" SPACE_RUN
constexpr const char* kLlama3 = LLAMA_LIKE(CRIBLE_LETTERS, "[" CRIBLE_NUMBERS "]{1,3}");
constexpr const char* kQwen2 = LLAMA_LIKE(CRIBLE_LETTERS, "[" CRIBLE_NUMBERS "]");
constexpr const char* kQwen35 = LLAMA_LIKE(CRIBLE_LETTERS CRIBLE_MARKS, "[" CRIBLE_NUMBERS "]");

// GPT-4o and Tekken also cut where lower case changes to upper.
#define CASE_AWARE(SUFFIX, NUMBER)                                                                          \
  R"([^\r\n)" CRIBLE_LETTERS CRIBLE_NUMBERS "]?[" CRIBLE_UPPER_OR_CASELESS "]*[" CRIBLE_LOWER_OR_CASELESS   \
  "]+" SUFFIX R"(|[^\r\n)" CRIBLE_LETTERS CRIBLE_NUMBERS "]?[" CRIBLE_UPPER_OR_CASELESS                     \
  "]+[" CRIBLE_LOWER_OR_CASELESS "]*" SUFFIX "|" NUMBER "| ?[^" CRIBLE_SPACES CRIBLE_LETTERS CRIBLE_NUMBERS \
  R"(]+[\r\n/]*|)" LINE_BREAKS "|" SPACE_RUN
constexpr const char* kGpt4o = CASE_AWARE("(?:" CONTRACTION_ANY_CASE ")?", "[" CRIBLE_NUMBERS "]{1,3}");
constexpr const char* kTekken = CASE_AWARE("", "[" CRIBLE_NUMBERS "]");

constexpr const char* kDeepseekCjk = R"([\x{4E00}-\x{9FA5}\x{3040}-\x{30FF}]+)";
constexpr const char* kDeepseekWords =
    R"([!-/:-@\[-`{-~][A-Za-z]+|[^\r\n)" CRIBLE_LETTERS CRIBLE_PUNCTUATION CRIBLE_SYMBOLS
    "]?[" CRIBLE_LETTERS CRIBLE_MARKS "]+| ?[" CRIBLE_PUNCTUATION CRIBLE_SYMBOLS R"(]+[\r\n]*|)" LINE_BREAKS
    "|" SPACE_RUN;

constexpr const char* kFalconPunctuation = "[" CRIBLE_PUNCTUATION "$+<=>^~|`]+";
constexpr const char* kDefaultPunctuation = "[" CRIBLE_PUNCTUATION "$+<=>^~|]+";

constexpr SplittingRule kRules[] = {
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

}  // namespace

const SplittingRule* find_splitting_rule(std::string_view name) {
  const SplittingRule* rule = std::ranges::find(kRules, name, &SplittingRule::name);
  return rule == std::end(kRules) ? nullptr : rule;
}

std::vector<std::string_view> splitting_rule_names() {
  std::vector<std::string_view> names;
  for (const SplittingRule& rule : kRules) names.push_back(rule.name);
  return names;
}

}  // namespace crible
