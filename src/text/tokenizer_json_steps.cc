#include "text/tokenizer_json_steps.h"

#include <functional>
#include <nlohmann/json.hpp>

#include "text/json_member.h"
#include "text/oniguruma_syntax.h"
#include "text/splitting_rules.h"
#include "text/unicode_classes.h"

namespace crible {
namespace {

using nlohmann::json;

// Backtracking steps of one match of an expression that a file brings along: below a second.
constexpr uint32_t kMatchSteps = 10'000'000;
constexpr int kMaxNesting = 16;

constexpr const char* kEitherPunctuation = "[" CRIBLE_PUNCTUATION R"(!-/:-@\[-`{-~])";

std::string place(std::string_view source, std::string_view part) {
  return fmt::format("{}: {}", source, part);
}

tl::unexpected<Error> unsupported(std::string_view where, std::string_view what) {
  return fail(ErrorCode::kUnsupported, "{} {} is not supported; the tokenizer cannot be used", where, what);
}

Result<std::string> read_type(const json& part, std::string_view where) {
  CRIBLE_TRY(const auto type, read_string(part, "type", where));
  if (!type) return fail(ErrorCode::kCorrupt, "{} has no \"type\"", where);
  return *type;
}

// Calls visit(step) for the part or, where it is a Sequence, for each of its members in `list`.
Status for_each_step(const json& part, const char* list, std::string_view where,
                     const std::function<Status(const json&, const std::string& type)>& visit,
                     int nesting = 0) {
  if (part.is_null()) return {};
  CRIBLE_TRY(const std::string type, read_type(part, where));
  if (type != "Sequence") return visit(part, type);
  if (nesting == kMaxNesting) return unsupported(where, "a deep nesting of sequences");
  CRIBLE_TRY(const json* steps, read_array(part, list, where));
  if (steps == nullptr) return fail(ErrorCode::kCorrupt, "{} is a Sequence without \"{}\"", where, list);
  for (const json& step : *steps) {
    CRIBLE_RETURN_IF_ERROR(for_each_step(step, list, where, visit, nesting + 1));
  }
  return {};
}

// {"String": ...} or {"Regex": ...}
struct PatternSource {
  std::string literal;
  std::string regex;  // in PCRE2's syntax; empty for a literal
};
Result<PatternSource> read_pattern(const json& step, std::string_view where) {
  const json* pattern = find_member(step, "pattern");
  if (pattern == nullptr) return fail(ErrorCode::kCorrupt, "{} has a step without \"pattern\"", where);
  CRIBLE_TRY(const auto literal, read_string(*pattern, "String", where));
  if (literal && !literal->empty()) return PatternSource{*literal, ""};
  CRIBLE_TRY(const auto regex, read_string(*pattern, "Regex", where));
  if (!regex || regex->empty()) return fail(ErrorCode::kCorrupt, "{} has an empty pattern", where);
  auto translated = pcre2_from_oniguruma(*regex);
  if (!translated) return tl::unexpected<Error>(with_context(translated.error(), std::string(where)));
  return PatternSource{"", *std::move(translated)};
}

Result<TextPattern> compile(const std::string& regex, std::string_view where) {
  auto pattern = TextPattern::compile(regex, kMatchSteps);
  if (!pattern) return tl::unexpected<Error>(with_context(pattern.error(), std::string(where)));
  return pattern;
}

Result<SplitBehavior> read_behavior(const json& step, std::string_view where) {
  CRIBLE_TRY(const auto name, read_string(step, "behavior", where));
  constexpr std::pair<std::string_view, SplitBehavior> kBehaviors[] = {
      {"Removed", SplitBehavior::kRemoved},
      {"Isolated", SplitBehavior::kIsolated},
      {"MergedWithPrevious", SplitBehavior::kMergedWithPrevious},
      {"MergedWithNext", SplitBehavior::kMergedWithNext},
      {"Contiguous", SplitBehavior::kContiguous},
  };
  for (const auto& [known, behavior] : kBehaviors) {
    if (name.value_or("Isolated") == known) return behavior;
  }
  return unsupported(where, fmt::format("the behavior \"{}\"", *name));
}

Result<std::pair<std::string, PrependScheme>> read_metaspace(const json& step, std::string_view where) {
  CRIBLE_TRY(const auto replacement, read_string(step, "replacement", where));
  CRIBLE_TRY(const auto scheme, read_string(step, "prepend_scheme", where));
  CRIBLE_TRY(const auto add_prefix, read_flag(step, "add_prefix_space", where));  // older files
  if (!replacement || replacement->empty()) {
    return fail(ErrorCode::kCorrupt, "{} is a Metaspace without \"replacement\"", where);
  }
  PrependScheme prepend = add_prefix.value_or(true) ? PrependScheme::kAlways : PrependScheme::kNever;
  if (scheme) {
    if (*scheme == "first") {
      prepend = PrependScheme::kFirst;
    } else if (*scheme == "never") {
      prepend = PrependScheme::kNever;
    } else if (*scheme != "always") {
      return unsupported(where, fmt::format("the prepend_scheme \"{}\"", *scheme));
    }
  }
  return std::pair(*replacement, prepend);
}

Status add_normalizer(const json& step, const std::string& type, std::string_view where,
                      std::vector<NormalizerStep>& steps) {
  constexpr std::pair<std::string_view, UnicodeForm> kForms[] = {{"NFC", UnicodeForm::kNfc},
                                                                 {"NFD", UnicodeForm::kNfd},
                                                                 {"NFKC", UnicodeForm::kNfkc},
                                                                 {"NFKD", UnicodeForm::kNfkd}};
  for (const auto& [name, form] : kForms) {
    if (type == name) {
      steps.emplace_back(form);
      return {};
    }
  }
  if (type == "Lowercase") {
    steps.emplace_back(LowercaseStep{});
  } else if (type == "Strip") {
    CRIBLE_TRY(const auto left, read_flag(step, "strip_left", where));
    CRIBLE_TRY(const auto right, read_flag(step, "strip_right", where));
    steps.emplace_back(StripStep{left.value_or(true), right.value_or(true)});
  } else if (type == "Prepend") {
    CRIBLE_TRY(const auto prefix, read_string(step, "prepend", where));
    steps.emplace_back(PrependStep{prefix.value_or("")});
  } else if (type == "Replace") {
    CRIBLE_TRY(const PatternSource source, read_pattern(step, where));
    CRIBLE_TRY(const auto content, read_string(step, "content", where));
    if (source.regex.empty()) {
      steps.emplace_back(LiteralReplaceStep{source.literal, content.value_or("")});
    } else {
      CRIBLE_TRY(TextPattern pattern, compile(source.regex, where));
      steps.emplace_back(PatternReplaceStep{std::move(pattern), content.value_or("")});
    }
  } else {
    return unsupported(where, fmt::format("\"{}\"", type));
  }
  return {};
}

class PreTokenizerReader {
 public:
  explicit PreTokenizerReader(std::string_view source) : where_(place(source, "pre_tokenizer")) {}

  Status add(const json& step, const std::string& type) {
    // Later steps would see the byte alphabet in place of the text.
    if (byte_level_) return unsupported(where_, fmt::format("\"{}\" after \"ByteLevel\"", type));
    if (type == "ByteLevel") return add_byte_level(step);
    if (type == "Split") return add_split(step);
    if (type == "Metaspace") {
      CRIBLE_TRY(const auto metaspace, read_metaspace(step, where_));
      CRIBLE_TRY(const auto split, read_flag(step, "split", where_));
      steps_.emplace_back(MetaspaceStep{metaspace.first, metaspace.second, split.value_or(true)});
      return {};
    }
    if (type == "Digits") {
      CRIBLE_TRY(const auto individual, read_flag(step, "individual_digits", where_));
      return add_pattern("[" CRIBLE_NUMBERS "]",
                         individual.value_or(false) ? SplitBehavior::kIsolated : SplitBehavior::kContiguous);
    }
    if (type == "Punctuation") {
      CRIBLE_TRY(const SplitBehavior behavior, read_behavior(step, where_));
      return add_pattern(kEitherPunctuation, behavior);
    }
    if (type == "Whitespace") {
      // Here a word has the joiners too.
      constexpr const char* kWords =
          "[" CRIBLE_WORD R"(\x{200C}\x{200D}]+|[^)" CRIBLE_WORD CRIBLE_SPACES R"(\x{200C}\x{200D}]+)";
      return add_pattern(kWords, SplitBehavior::kRemoved, true);
    }
    if (type == "WhitespaceSplit") return add_pattern("[" CRIBLE_SPACES "]", SplitBehavior::kRemoved);
    return unsupported(where_, fmt::format("\"{}\"", type));
  }

  PreTokenizerPart finish() { return {PreTokenizer(std::move(steps_)), byte_level_}; }

 private:
  Status add_pattern(const std::string& regex, SplitBehavior behavior, bool invert = false) {
    CRIBLE_TRY(TextPattern pattern, compile(regex, where_));
    steps_.emplace_back(SplitStep{std::move(pattern), behavior, invert});
    return {};
  }

  Status add_byte_level(const json& step) {
    CRIBLE_TRY(const auto prefix, read_flag(step, "add_prefix_space", where_));
    CRIBLE_TRY(const auto use_regex, read_flag(step, "use_regex", where_));
    if (prefix.value_or(true)) steps_.emplace_back(PrefixSpaceStep{});
    byte_level_ = true;
    if (!use_regex.value_or(true)) return {};
    return add_pattern(find_splitting_rule("gpt-2")->patterns[0], SplitBehavior::kIsolated);
  }

  Status add_split(const json& step) {
    CRIBLE_TRY(const PatternSource source, read_pattern(step, where_));
    CRIBLE_TRY(const SplitBehavior behavior, read_behavior(step, where_));
    CRIBLE_TRY(const auto invert, read_flag(step, "invert", where_));
    return add_pattern(source.regex.empty() ? quote_pattern(source.literal) : source.regex, behavior,
                       invert.value_or(false));
  }

  std::string where_;
  std::vector<PreTokenizerStep> steps_;
  bool byte_level_ = false;
};

// [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]
Status add_template(const json& step, std::string_view where, PostProcessorPart& part) {
  CRIBLE_TRY(const json* pieces, read_array(step, "single", where));
  const json* tokens = find_member(step, "special_tokens");
  bool before = true;
  if (pieces == nullptr) return fail(ErrorCode::kCorrupt, "{} is a template without \"single\"", where);
  for (const json& piece : *pieces) {
    if (find_member(piece, "Sequence") != nullptr) {
      if (!before) return unsupported(where, "a template that holds the text twice");
      before = false;
      continue;
    }
    const json* special = find_member(piece, "SpecialToken");
    if (special == nullptr)
      return fail(ErrorCode::kCorrupt, "{} has a template piece of no known kind", where);
    CRIBLE_TRY(const auto name, read_string(*special, "id", where));
    const json* token = tokens == nullptr || !name ? nullptr : find_member(*tokens, *name);
    if (token == nullptr) {
      return fail(ErrorCode::kCorrupt, "{} names the special token \"{}\" and not its ids", where,
                  name.value_or(""));
    }
    CRIBLE_TRY(const json* ids, read_array(*token, "ids", where));
    if (ids == nullptr) return fail(ErrorCode::kCorrupt, "{} has a special token without \"ids\"", where);
    for (const json& id : *ids) {
      const int64_t value = id.is_number_integer() ? id.get<int64_t>() : -1;
      if (value < 0 || value > INT32_MAX) return fail(ErrorCode::kCorrupt, "{} has a bad token id", where);
      (before ? part.prefix : part.suffix).push_back(static_cast<TokenId>(value));
    }
  }
  if (before) return unsupported(where, "a template without the text");
  return {};
}

class DecoderReader {
 public:
  explicit DecoderReader(std::string_view source) : where_(place(source, "decoder")) {
    rules_.byte_alphabet = false;
    rules_.replace_in_added = true;
  }

  Status add(const json& step, const std::string& type) {
    if (type == "ByteLevel") {
      rules_.byte_alphabet = true;
    } else if (type == "ByteFallback") {
      rules_.byte_fallback = true;
    } else if (type == "Fuse") {
      fused_ = true;
    } else if (type == "Replace") {
      CRIBLE_TRY(const PatternSource source, read_pattern(step, where_));
      CRIBLE_TRY(const auto content, read_string(step, "content", where_));
      // After Fuse it could match across tokens, and across the pieces of a stream.
      if (!source.regex.empty() || fused_) return unsupported(where_, "such a \"Replace\"");
      rules_.replacements.emplace_back(source.literal, content.value_or(""));
    } else if (type == "Metaspace") {
      CRIBLE_TRY(const auto metaspace, read_metaspace(step, where_));
      rules_.replacements.emplace_back(metaspace.first, " ");
      if (metaspace.second != PrependScheme::kNever) rules_.leading_space = LeadingSpace::kDropInFirstToken;
    } else if (type == "Strip") {
      return add_strip(step);
    } else {
      return unsupported(where_, fmt::format("\"{}\"", type));
    }
    return {};
  }

  TokenTextRules finish() { return std::move(rules_); }

 private:
  Status add_strip(const json& step) {
    CRIBLE_TRY(const auto content, read_string(step, "content", where_));
    CRIBLE_TRY(const auto start, read_integer(step, "start", where_));
    CRIBLE_TRY(const auto stop, read_integer(step, "stop", where_));
    if (content.value_or("") != " " || start.value_or(0) > 1 || stop.value_or(0) != 0 || !fused_) {
      return unsupported(where_, "a \"Strip\" of anything but the text's first space");
    }
    if (start.value_or(0) == 1) rules_.leading_space = LeadingSpace::kDropOne;
    return {};
  }

  std::string where_;
  TokenTextRules rules_;
  bool fused_ = false;
};

}  // namespace

Result<Normalizer> read_normalizer(const json& part, std::string_view source) {
  const std::string where = place(source, "normalizer");
  std::vector<NormalizerStep> steps;
  CRIBLE_RETURN_IF_ERROR(for_each_step(
      part, "normalizers", where,
      [&](const json& step, const std::string& type) { return add_normalizer(step, type, where, steps); }));
  return Normalizer(std::move(steps));
}

Result<PreTokenizerPart> read_pre_tokenizer(const json& part, std::string_view source) {
  PreTokenizerReader reader(source);
  CRIBLE_RETURN_IF_ERROR(
      for_each_step(part, "pretokenizers", place(source, "pre_tokenizer"),
                    [&](const json& step, const std::string& type) { return reader.add(step, type); }));
  return reader.finish();
}

Result<PostProcessorPart> read_post_processor(const json& part, std::string_view source) {
  const std::string where = place(source, "post_processor");
  PostProcessorPart result;
  bool has_template = false;
  CRIBLE_RETURN_IF_ERROR(
      for_each_step(part, "processors", where, [&](const json& step, const std::string& type) -> Status {
        if (type == "ByteLevel") return {};  // changes offsets only
        if (type != "TemplateProcessing" || has_template)
          return unsupported(where, fmt::format("\"{}\"", type));
        has_template = true;
        return add_template(step, where, result);
      }));
  return result;
}

Result<TokenTextRules> read_decoder(const json& part, std::string_view source) {
  DecoderReader reader(source);
  if (part.is_null()) return unsupported(place(source, "a tokenizer without"), "\"decoder\"");
  CRIBLE_RETURN_IF_ERROR(
      for_each_step(part, "decoders", place(source, "decoder"),
                    [&](const json& step, const std::string& type) { return reader.add(step, type); }));
  return reader.finish();
}

}  // namespace crible
