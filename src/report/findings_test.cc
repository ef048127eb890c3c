// A difference is worded only where the measurements show it, and on the right side.
#include "report/findings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "report/sections.h"
#include "study/record/metrics.h"

namespace crible::report {
namespace {

double uniform(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11) * 0x1p-53;
}

// Any contrast, also inconsistent ones: decided flags that contradict the intervals, wide intervals,
// missing ones.
study::Contrast random_contrast(std::mt19937_64& random, const study::MetricInfo& metric,
                                const std::string& a, const std::string& b) {
  study::Contrast contrast;
  contrast.reference = {metric.scenarios.empty() ? "" : std::string(metric.scenarios.front()),
                        std::string(metric.name), std::string(metric.default_statistic)};
  contrast.a = a;
  contrast.b = b;
  contrast.kind =
      metric.scale == study::MetricScale::kLog ? study::EffectKind::kRatio : study::EffectKind::kDifference;
  contrast.blocks = 5;
  const double centre = uniform(random) - 0.5;
  const double half = 0.5 * uniform(random);
  const auto effect = [&](double x) { return contrast.kind == study::EffectKind::kRatio ? std::exp(x) : x; };
  contrast.effect = effect(centre);
  if (random() % 8 != 0) contrast.ci95 = study::Interval{effect(centre - half), effect(centre + half)};
  if (random() % 3 != 0) {
    const double wide = half * (1 + uniform(random));
    contrast.simultaneous = study::Interval{effect(centre - wide), effect(centre + wide)};
  }
  contrast.decided = random() % 4 != 0;
  contrast.equivalent = random() % 5 == 0;
  return contrast;
}

study::StudyResult random_study(uint64_t seed) {
  std::mt19937_64 random(seed);
  study::StudyResult study;
  for (const char* name : {"one", "two", "three"}) {
    study::ConfigurationResult configuration;
    configuration.name = name;
    study.configurations.push_back(configuration);
  }
  for (const study::MetricInfo& metric : study::metric_table()) {
    for (const auto& [a, b] :
         {std::pair("one", "two"), std::pair("one", "three"), std::pair("two", "three")}) {
      study.contrasts.push_back(random_contrast(random, metric, a, b));
    }
  }
  return study;
}

// The rule, stated anew: is `name` shown to lie on `side` of `rival` in the referenced metric?
bool is_shown(const study::StudyResult& study, const std::string& label, const Scribe& scribe,
              const std::string& name, const std::string& rival, Side side) {
  for (const study::Contrast& contrast : study.contrasts) {
    const bool forward = contrast.a == name && contrast.b == rival;
    const bool backward = contrast.b == name && contrast.a == rival;
    if ((!forward && !backward) || scribe.reference_label(contrast.reference) != label) continue;
    if (!contrast.decided || !contrast.ci95) return false;
    const double none = contrast.kind == study::EffectKind::kRatio ? 1 : 0;
    const bool a_lower = (side == Side::kLower) == forward;
    const auto excludes = [&](const study::Interval& interval) {
      return a_lower ? interval.high < none : interval.low > none;
    };
    return excludes(*contrast.ci95) && (!contrast.simultaneous || excludes(*contrast.simultaneous));
  }
  return false;
}

const study::MetricInfo* metric_of(const study::StudyResult& study, const std::string& label,
                                   const Scribe& scribe) {
  for (const study::Contrast& contrast : study.contrasts) {
    if (scribe.reference_label(contrast.reference) == label)
      return study::find_metric(contrast.reference.metric);
  }
  return nullptr;
}

struct Counts {
  int claims = 0;
  int possible = 0;
};

void check_item(const study::StudyResult& study, const Scribe& scribe, const std::string& name,
                const ListItem& item, Counts& counts) {
  if (item.mark != Mark::kStrength && item.mark != Mark::kWeakness) return;
  const std::string label = item.content.front().text;
  const std::string words = plain_text(item.content);
  const bool lower = words.find(": lower than ") != std::string::npos;
  ASSERT_TRUE(lower || words.find(": higher than ") != std::string::npos) << words;
  const study::MetricInfo* metric = metric_of(study, label, scribe);
  ASSERT_NE(metric, nullptr) << label;
  const bool better = lower == (metric->direction == study::Direction::kLowerIsBetter);
  EXPECT_EQ(better, item.mark == Mark::kStrength) << words;
  for (const Span& span : item.content) {
    if (span.style != Span::Style::kCode) continue;
    EXPECT_TRUE(is_shown(study, label, scribe, name, span.text, lower ? Side::kLower : Side::kHigher))
        << words;
    ++counts.claims;
  }
}

TEST(Findings, SentencesClaimOnlyWhatIntervalsShow) {
  const Scribe scribe(Language::kEnglish);
  Counts counts;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    const study::StudyResult study = random_study(seed);
    for (const study::Contrast& contrast : study.contrasts) {
      if (!is_secondary_metric(contrast.reference.metric))
        counts.possible += 2 * shown_side(contrast).has_value();
    }
    const Section section = build_configuration_sections({study, {}, scribe});
    ASSERT_EQ(section.children.size(), study.configurations.size());
    for (size_t i = 0; i < section.children.size(); ++i) {
      for (const Block& block : section.children[i].blocks) {
        const auto* list = std::get_if<List>(&block);
        if (list == nullptr) continue;
        for (const ListItem& item : list->items)
          check_item(study, scribe, study.configurations[i].name, item, counts);
      }
    }
  }
  EXPECT_EQ(counts.claims, counts.possible) << "every shown difference is worded from both sides";
  EXPECT_GT(counts.claims, 1000);
}

TEST(Findings, SeenFromTheOtherSideIsTheInverse) {
  study::Contrast contrast;
  contrast.a = "x";
  contrast.b = "y";
  contrast.effect = 2;
  contrast.ci95 = study::Interval{1.6, 2.5};
  const Comparison from_b = seen_from(contrast, "y");
  EXPECT_DOUBLE_EQ(from_b.effect, 0.5);
  EXPECT_DOUBLE_EQ(from_b.interval->low, 0.4);
  EXPECT_DOUBLE_EQ(from_b.interval->high, 0.625);
  contrast.kind = study::EffectKind::kDifference;
  EXPECT_DOUBLE_EQ(seen_from(contrast, "y").effect, -2);
  EXPECT_DOUBLE_EQ(seen_from(contrast, "y").interval->low, -2.5);
}

TEST(Findings, ProductionFollowsTheUseCaseThatSaysSo) {
  study::StudyResult study;
  EXPECT_EQ(production_verdict(study), nullptr);
  study.verdicts.resize(2);
  study.verdicts[0].objective = "agents";
  study.verdicts[1].objective = "generic_production";
  EXPECT_EQ(production_verdict(study), &study.verdicts[1]);
  study.verdicts[1].objective = "throughput";
  EXPECT_EQ(production_verdict(study), &study.verdicts[0]);
}

}  // namespace
}  // namespace crible::report
