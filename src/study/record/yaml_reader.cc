#include "study/record/yaml_reader.h"

#include <charconv>
#include <cmath>

#include "config/field_table.h"

namespace crible::study {
namespace {

Result<double> parse_number(const std::string& text) {
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) {
    return fail(ErrorCode::kInvalidArgument, "'{}' is not a number", text);
  }
  return value;
}

const char* kind_of(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Map: return "a mapping";
    case YAML::NodeType::Sequence: return "a list";
    case YAML::NodeType::Scalar: return "a single value";
    default: return "nothing";
  }
}

}  // namespace

Result<YAML::Node> YamlReader::parse(const std::string& text) const {
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& failure) {
    return fail(ErrorCode::kInvalidArgument, "{}:{}:{}: not valid YAML: {}", source_name_,
                failure.mark.line + 1, failure.mark.column + 1, failure.msg);
  }
}

Result<std::vector<YamlReader::Entry>> YamlReader::entries(const YAML::Node& node,
                                                           std::string_view what) const {
  if (node.IsNull()) return std::vector<Entry>();
  if (!node.IsMap()) {
    return error(node, fmt::format("{} must be a mapping (key: value), but is {}", what, kind_of(node)));
  }
  std::vector<Entry> result;
  for (const auto& pair : node) {
    if (!pair.first.IsScalar()) {
      return error(pair.first, fmt::format("a key of {} must be a single word", what));
    }
    Entry entry{pair.first.Scalar(), pair.first, pair.second};
    for (const Entry& earlier : result) {
      if (earlier.key == entry.key) {
        return error(pair.first, fmt::format("'{}' is given twice in {} (first in line {})", entry.key,
                                             what, earlier.key_node.Mark().line + 1));
      }
    }
    result.push_back(std::move(entry));
  }
  return result;
}

Result<std::vector<YAML::Node>> YamlReader::items(const YAML::Node& node,
                                                  std::string_view what) const {
  if (!node.IsSequence()) {
    return error(node, fmt::format("{} must be a list, but is {}", what, kind_of(node)));
  }
  return std::vector<YAML::Node>(node.begin(), node.end());
}

Result<std::string> YamlReader::text(const YAML::Node& node, std::string_view what) const {
  if (!node.IsScalar() || node.Scalar().empty()) {
    return error(node, fmt::format("{} must be a single value, but is {}", what,
                                   node.IsScalar() ? "empty" : kind_of(node)));
  }
  return node.Scalar();
}

Result<double> YamlReader::number(const YAML::Node& node, std::string_view what, double minimum,
                                  double maximum) const {
  CRIBLE_TRY(const std::string word, text(node, what));
  const Result<double> value = parse_number(word);
  if (!value || !(*value >= minimum && *value <= maximum)) {
    return error(node, fmt::format("{} is '{}', but must be a number from {} to {}", what, word,
                                   minimum, maximum));
  }
  return *value;
}

Result<int64_t> YamlReader::integer(const YAML::Node& node, std::string_view what, int64_t minimum,
                                    int64_t maximum) const {
  CRIBLE_TRY(const std::string word, text(node, what));
  int64_t value = 0;
  const auto [end, code] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (code != std::errc() || end != word.data() + word.size() || value < minimum || value > maximum) {
    return error(node, fmt::format("{} is '{}', but must be a whole number from {} to {}", what, word,
                                   minimum, maximum));
  }
  return value;
}

tl::unexpected<Error> YamlReader::error(const YAML::Node& node, const std::string& message) const {
  return tl::unexpected<Error>(at(node, {ErrorCode::kInvalidArgument, message}));
}

Error YamlReader::at(const YAML::Node& node, Error error) const {
  const YAML::Mark mark = node.Mark();
  return with_context(std::move(error),
                      fmt::format("{}:{}:{}", source_name_, mark.line + 1, mark.column + 1));
}

tl::unexpected<Error> YamlReader::unknown_key(const Entry& entry, std::string_view what,
                                              std::span<const std::string_view> known) const {
  return error(entry.key_node, fmt::format("unknown key '{}' in {}{}; known: {}", entry.key, what,
                                           suggest(entry.key, known), fmt::join(known, ", ")));
}

}  // namespace crible::study
