#include "study/record/spec.h"

#include <algorithm>
#include <cmath>

#include "base/atomic_file.h"
#include "base/check.h"
#include "study/record/scenario_table.h"
#include "study/record/spec_parser.h"

namespace crible::study {
namespace {

constexpr size_t kMostSpecBytes = 1 << 20;

const std::vector<double>& parameter_values(const ScenarioSpec& scenario,
                                            const std::string& parameter) {
  const auto found = scenario.parameters.find(parameter);
  CHECK(found != scenario.parameters.end() && !found->second.empty(), "{}.{}", scenario.name,
        parameter);
  return found->second;
}

}  // namespace

double ScenarioSpec::number(const std::string& parameter) const {
  return parameter_values(*this, parameter).front();
}

int ScenarioSpec::integer(const std::string& parameter) const {
  return static_cast<int>(std::lround(number(parameter)));
}

std::vector<int> ScenarioSpec::integers(const std::string& parameter) const {
  std::vector<int> values;
  for (const double value : parameter_values(*this, parameter)) {
    values.push_back(static_cast<int>(std::lround(value)));
  }
  return values;
}

std::string MetricReference::text() const {
  return (scenario.empty() ? "" : scenario + "/") + metric + "." + statistic;
}

Result<StudySpec> parse_spec(const std::string& yaml, const std::string& source_name) {
  if (yaml.size() > kMostSpecBytes) {
    return fail(ErrorCode::kInvalidArgument, "{} is larger than {} bytes: not a study's spec",
                source_name, kMostSpecBytes);
  }
  return SpecParser(source_name).parse(yaml);
}

Result<StudySpec> load_spec(const std::filesystem::path& path) {
  CRIBLE_TRY(const std::string text, read_file(path, kMostSpecBytes));
  return parse_spec(text, path.string());
}

}  // namespace crible::study
