#include "report/wording.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "report/metric_wording.h"
#include "study/record/metrics.h"
#include "study/record/scenario_table.h"

namespace crible::report {
namespace {

std::multiset<char> arguments_of(std::string_view words) {
  std::multiset<char> arguments;
  for (size_t i = 0; i + 2 < words.size(); ++i) {
    if (words[i] == '{' && words[i + 2] == '}') arguments.insert(words[i + 1]);
  }
  return arguments;
}

TEST(Wording, BothLanguagesUseTheSameArguments) {
  for (size_t i = 0; i < kPhraseCount; ++i) {
    const auto phrase = static_cast<Phrase>(i);
    const std::string_view english = phrase_text(phrase, Language::kEnglish);
    const std::string_view french = phrase_text(phrase, Language::kFrench);
    EXPECT_EQ(arguments_of(english), arguments_of(french)) << english << "\n" << french;
  }
}

TEST(Wording, FrenchPutsNarrowSpacesBeforeDoublePunctuation) {
  for (size_t i = 0; i < kPhraseCount; ++i) {
    const std::string words(phrase_text(static_cast<Phrase>(i), Language::kFrench));
    for (const char* wrong : {" :", " ;", " ?", " !", " %", " »", "« "}) {
      EXPECT_EQ(words.find(wrong), std::string::npos) << words;
    }
    EXPECT_EQ(words.find('\''), std::string::npos) << "typewriter apostrophe: " << words;
  }
}

TEST(Wording, EveryMetricAndScenarioHasWords) {
  for (const study::MetricInfo& metric : study::metric_table()) {
    EXPECT_TRUE(has_metric_words(metric.name)) << metric.name;
    for (const Language language : {Language::kEnglish, Language::kFrench}) {
      EXPECT_FALSE(metric_definition(metric.name, language).empty()) << metric.name;
    }
  }
  for (const study::ScenarioInfo& scenario : study::scenario_table()) {
    EXPECT_TRUE(has_scenario_words(scenario.name)) << scenario.name;
    for (const Language language : {Language::kEnglish, Language::kFrench}) {
      EXPECT_FALSE(scenario_definition(scenario.name, language).empty()) << scenario.name;
    }
  }
}

TEST(Wording, UnknownNamesStandForThemselves) {
  EXPECT_EQ(metric_label_words("new_metric", Language::kFrench), "new_metric");
  EXPECT_EQ(objective_words("rag_answers", Language::kEnglish), "Rag answers");
  EXPECT_EQ(objective_words("tool_calling", Language::kFrench), "Appel d’outils");
}

}  // namespace
}  // namespace crible::report
