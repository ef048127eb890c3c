#include "study/record/spec_parser.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "config/field_table.h"

namespace crible::study {
namespace {

constexpr std::array<std::string_view, 13> kKeys = {
    "study",       "language", "target",        "base",           "configurations",
    "axes",        "scenarios", "blocks",       "seed",           "time_budget",
    "objectives",  "service_levels", "equivalence_margin"};

constexpr std::array<std::string_view, 5> kTargetKeys = {"engine", "model", "url", "api_key_env",
                                                         "arguments"};
constexpr std::array<std::string_view, 2> kEngines = {"crible", "url"};
// Servers that the study knows by name but does not start yet; a running one is measured by url.
constexpr std::array<std::string_view, 3> kForeignEngines = {"vllm", "sglang", "llama.cpp"};

constexpr int64_t kMostBlocks = 1000;
constexpr double kLongestBudget_s = 7 * 24 * 3600.0;

}  // namespace

bool is_plain_name(std::string_view name) {
  constexpr std::string_view kAlso = "_-.=+,";
  return !name.empty() && name.size() <= 120 && name.front() != '.' && name.front() != '-' &&
         std::ranges::all_of(name, [&](unsigned char c) {
           return std::isalnum(c) || kAlso.find(static_cast<char>(c)) != std::string_view::npos;
         });
}

Result<StudySpec> SpecParser::parse(const std::string& yaml) {
  CRIBLE_TRY(const YAML::Node root, reader_.parse(yaml));
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(root, "the study"));
  using Method = Status (SpecParser::*)(const YAML::Node&);
  const std::map<std::string_view, Method> first_pass = {
      {"study", &SpecParser::parse_name},         {"language", &SpecParser::parse_language},
      {"target", &SpecParser::parse_target},      {"base", &SpecParser::parse_base},
      {"blocks", &SpecParser::parse_blocks},      {"seed", &SpecParser::parse_seed},
      {"time_budget", &SpecParser::parse_time_budget},
      {"equivalence_margin", &SpecParser::parse_margin}};
  spec_.source_text = yaml;
  std::vector<std::string> seen;
  for (const Entry& entry : entries) {
    seen.push_back(entry.key);
    if (const auto method = first_pass.find(entry.key); method != first_pass.end()) {
      CRIBLE_RETURN_IF_ERROR((this->*method->second)(entry.value));
    } else if (std::ranges::find(kKeys, entry.key) != kKeys.end()) {
      later_[entry.key] = entry.value;
    } else {
      return reader_.unknown_key(entry, "the study", kKeys);
    }
  }
  for (const std::string_view needed : {"study", "target", "scenarios", "objectives"}) {
    if (std::ranges::find(seen, needed) == seen.end()) {
      return reader_.error(root, fmt::format("the study lacks the key '{}'", needed));
    }
  }
  constexpr std::array<std::pair<std::string_view, Method>, 5> kSecondPass = {
      {{"configurations", &SpecParser::parse_configurations},
       {"axes", &SpecParser::parse_axes},
       {"scenarios", &SpecParser::parse_scenarios},
       {"service_levels", &SpecParser::parse_service_levels},
       {"objectives", &SpecParser::parse_objectives}}};
  for (const auto& [key, method] : kSecondPass) {
    if (const auto found = later_.find(key); found != later_.end()) {
      CRIBLE_RETURN_IF_ERROR((this->*method)(found->second));
    }
  }
  if (spec_.configurations.empty()) {
    return reader_.error(root, "the study has no configuration; name some under 'configurations', or "
                               "values of knobs under 'axes'");
  }
  return std::move(spec_);
}

Status SpecParser::parse_name(const YAML::Node& node) {
  CRIBLE_TRY(spec_.name, reader_.text(node, "study"));
  if (!is_plain_name(spec_.name)) {
    return reader_.error(node, fmt::format("the study's name '{}' must be letters, digits and _ - . "
                                           "only: it becomes part of file names",
                                           spec_.name));
  }
  return {};
}

Status SpecParser::parse_language(const YAML::Node& node) {
  CRIBLE_TRY(spec_.language, reader_.text(node, "language"));
  if (spec_.language != "en" && spec_.language != "fr") {
    return reader_.error(node, fmt::format("language is '{}', but must be en or fr", spec_.language));
  }
  return {};
}

Status SpecParser::parse_blocks(const YAML::Node& node) {
  CRIBLE_TRY(const int64_t blocks, reader_.integer(node, "blocks", 1, kMostBlocks));
  spec_.blocks = static_cast<int>(blocks);
  return {};
}

Status SpecParser::parse_seed(const YAML::Node& node) {
  CRIBLE_TRY(const int64_t seed, reader_.integer(node, "seed", 0, INT64_MAX));
  spec_.seed = static_cast<uint64_t>(seed);
  return {};
}

// Seconds, or a number with s, min or h behind it: 240, 240s, 4min, 1.5h.
Status SpecParser::parse_time_budget(const YAML::Node& node) {
  CRIBLE_TRY(std::string word, reader_.text(node, "time_budget"));
  double unit_s = 1;
  constexpr std::array<std::pair<std::string_view, double>, 3> kUnits = {
      {{"min", 60}, {"h", 3600}, {"s", 1}}};
  for (const auto& [suffix, seconds] : kUnits) {
    if (!word.ends_with(suffix)) continue;
    unit_s = seconds;
    word.resize(word.size() - suffix.size());
    break;
  }
  YAML::Node amount(word);
  const Result<double> value = reader_.number(amount, "time_budget", 1 / unit_s,
                                              kLongestBudget_s / unit_s);
  if (!value) {
    return reader_.error(node, fmt::format("time_budget is '{}', but must be a time from 1s to 168h, "
                                           "like 240, 4min or 1.5h",
                                           node.Scalar()));
  }
  spec_.time_budget_s = *value * unit_s;
  return {};
}

Status SpecParser::parse_margin(const YAML::Node& node) {
  CRIBLE_TRY(spec_.equivalence_margin, reader_.number(node, "equivalence_margin", 0, 1));
  return {};
}

Status SpecParser::parse_target(const YAML::Node& node) {
  CRIBLE_TRY(const std::vector<Entry> entries, reader_.entries(node, "target"));
  for (const Entry& entry : entries) {
    if (entry.key == "engine") {
      CRIBLE_RETURN_IF_ERROR(parse_engine(entry.value));
    } else if (entry.key == "model") {
      CRIBLE_TRY(spec_.target.model, reader_.text(entry.value, "model"));
    } else if (entry.key == "url") {
      CRIBLE_TRY(spec_.target.url, reader_.text(entry.value, "url"));
    } else if (entry.key == "api_key_env") {
      CRIBLE_TRY(spec_.target.api_key_env, reader_.text(entry.value, "api_key_env"));
    } else if (entry.key == "arguments") {
      CRIBLE_TRY(const std::vector<YAML::Node> words, reader_.items(entry.value, "arguments"));
      for (const YAML::Node& word : words) {
        CRIBLE_TRY(std::string argument, reader_.text(word, "an argument"));
        spec_.target.arguments.push_back(std::move(argument));
      }
    } else {
      return reader_.unknown_key(entry, "target", kTargetKeys);
    }
  }
  return check_target(node);
}

Status SpecParser::parse_engine(const YAML::Node& node) {
  CRIBLE_TRY(const std::string engine, reader_.text(node, "engine"));
  if (engine == "crible") {
    spec_.target.engine = TargetEngine::kCrible;
  } else if (engine == "url") {
    spec_.target.engine = TargetEngine::kUrl;
  } else if (std::ranges::find(kForeignEngines, engine) != kForeignEngines.end()) {
    Error unsupported{ErrorCode::kUnsupported,
                      fmt::format("this version does not start {} by itself; start it yourself in each "
                                  "configuration, and give engine: url with each one's url",
                                  engine)};
    return tl::unexpected<Error>(reader_.at(node, std::move(unsupported)));
  } else {
    return reader_.error(node, fmt::format("unknown engine '{}'{}; known: {}", engine,
                                           suggest(engine, kEngines), fmt::join(kEngines, ", ")));
  }
  return {};
}

Status SpecParser::check_target(const YAML::Node& node) const {
  const TargetSpec& target = spec_.target;
  if (target.engine == TargetEngine::kCrible) {
    if (target.model.empty()) {
      return reader_.error(node, "target needs 'model': the path of the model to serve");
    }
    if (!target.url.empty()) {
      return reader_.error(node, "target has a url, but engine crible starts its own server; give "
                                 "engine: url to measure one that runs already");
    }
  } else if (!target.arguments.empty()) {
    return reader_.error(node, "target has arguments, but a server given by url is already running");
  }
  return {};
}

}  // namespace crible::study
