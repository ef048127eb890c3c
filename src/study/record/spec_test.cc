#include "study/record/spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "study/record/knobs.h"
#include "study/record/metrics.h"
#include "study/record/plan.h"
#include "study/record/scenario_table.h"

namespace crible::study {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kComplete = R"(study: agents
language: fr
target: {engine: crible, model: models/default.gguf, arguments: [--threads, "2"]}
base: {max-num-seqs: 32}
configurations:
  - name: chunked_only_safe
    gpu-memory-utilization: 0.850
    enable-chunked-prefill: true
    enable-prefix-caching: false
  - name: safe_conservative
    gpu-memory-utilization: 0.85
    enable-chunked-prefill: off
    enable-prefix-caching: false
  - {name: aggressive_cache, gpu-memory-utilization: 0.95, max-num-seqs: 48}
axes:
  max-num-batched-tokens: [256, 512]
  enable-prefix-caching: [true, false]
scenarios:
  - kv_cache: {pairs: 3, prefix_tokens: 500}
  - conversation
  - concurrency: {levels: [1, 2]}
blocks: 4
seed: 9
time_budget: 4min
service_levels: {ttft_ms: 500, itl_ms: 50}
equivalence_margin: 0.03
objectives:
  conversational_agents:
    minimise: ttft_hit_ms.p50
    subject_to: {error_rate: "<= 0.01", device_memory_share: "<= 0.95"}
  throughput: {maximise: output_tokens_per_s, subject_to: {concurrency/ttft_ms.p95: "<= 900"}}
)";

StudySpec parse_good(const std::string& yaml) {
  auto spec = parse_spec(yaml, "agents.yaml");
  EXPECT_TRUE(spec.has_value()) << (spec ? "" : spec.error().message);
  return spec ? *spec : StudySpec();
}

std::string error_of(const std::string& yaml) {
  const auto spec = parse_spec(yaml, "agents.yaml");
  EXPECT_FALSE(spec.has_value()) << yaml;
  return spec ? "" : spec.error().message;
}

TEST(Spec, ReadsEveryKey) {
  const StudySpec spec = parse_good(kComplete);
  EXPECT_EQ(spec.name, "agents");
  EXPECT_EQ(spec.language, "fr");
  EXPECT_EQ(spec.target.engine, TargetEngine::kCrible);
  EXPECT_EQ(spec.target.model, "models/default.gguf");
  EXPECT_THAT(spec.target.arguments, ElementsAre("--threads", "2"));
  ASSERT_EQ(spec.configurations.size(), 7u);
  EXPECT_EQ(spec.configurations[0].knobs.at("gpu-memory-utilization"), "0.85");
  EXPECT_EQ(spec.configurations[1].knobs.at("enable-chunked-prefill"), "false");
  EXPECT_EQ(spec.configurations[1].knobs.at("max-num-seqs"), "32");
  EXPECT_EQ(spec.configurations[2].knobs.at("max-num-seqs"), "48");
  EXPECT_EQ(spec.configurations[2].own.size(), 2u);
  EXPECT_EQ(spec.configurations[3].name, "max-num-batched-tokens=256+enable-prefix-caching=true");
  EXPECT_EQ(spec.configurations[6].name, "max-num-batched-tokens=512+enable-prefix-caching=false");
  ASSERT_EQ(spec.scenarios.size(), 3u);
  EXPECT_EQ(spec.scenarios[0].integer("pairs"), 3);
  EXPECT_EQ(spec.scenarios[0].integer("output_tokens"), 8);
  EXPECT_THAT(spec.scenarios[2].integers("levels"), ElementsAre(1, 2));
  EXPECT_EQ(spec.blocks, 4);
  EXPECT_EQ(spec.seed, 9u);
  EXPECT_EQ(spec.time_budget_s, 240.0);
  EXPECT_EQ(spec.service_levels.size(), 2u);
  EXPECT_EQ(spec.equivalence_margin, 0.03);
  ASSERT_EQ(spec.objectives.size(), 2u);
  EXPECT_EQ(spec.objectives[0].reference.text(), "kv_cache/ttft_hit_ms.p50");
  EXPECT_EQ(spec.objectives[0].constraints[1].reference.text(), "device_memory_share.max");
  EXPECT_EQ(spec.objectives[1].sense, Sense::kMaximise);
  EXPECT_EQ(spec.objectives[1].reference.text(), "concurrency/output_tokens_per_s.mean");
  EXPECT_EQ(spec.objectives[1].constraints[0].reference.text(), "concurrency/ttft_ms.p95");
  EXPECT_EQ(spec.source_text, kComplete);
}

// A small spec whose pieces the cases below replace.
std::string spec_with(const std::string& replaced, const std::string& replacement) {
  std::string yaml = R"(study: s
target: {engine: crible, model: m.gguf}
configurations:
  - {name: a, max-num-seqs: 16}
  - {name: b, max-num-seqs: 32}
scenarios: [conversation]
blocks: 3
objectives: {agents: {minimise: ttft_ms.p50}}
)";
  const size_t place = yaml.find(replaced);
  EXPECT_NE(place, std::string::npos) << replaced;
  return yaml.replace(place, replaced.size(), replacement);
}

struct BadSpec {
  const char* replaced;
  const char* replacement;
  const char* place;    // line:column
  const char* message;  // part of it
};

class SpecErrors : public ::testing::TestWithParam<BadSpec> {};

TEST_P(SpecErrors, NamePlaceAndRemedy) {
  const BadSpec& bad = GetParam();
  const std::string message = error_of(spec_with(bad.replaced, bad.replacement));
  EXPECT_THAT(message, StartsWith(std::string("agents.yaml:") + bad.place + ": "));
  EXPECT_THAT(message, HasSubstr(bad.message));
}

INSTANTIATE_TEST_SUITE_P(
    Every, SpecErrors,
    ::testing::Values(
        BadSpec{"blocks:", "block:", "7:1", "did you mean 'blocks'?"},
        BadSpec{"blocks: 3", "blocks: 3\nblocks: 4", "8:1", "'blocks' is given twice"},
        BadSpec{"blocks: 3", "blocks: 0", "7:9", "whole number from 1"},
        BadSpec{"blocks: 3", "blocks: 2.5", "7:9", "whole number"},
        BadSpec{"blocks: 3", "blocks: [3]", "7:9", "single value, but is a list"},
        BadSpec{"blocks: 3", "time_budget: soon", "7:14", "like 240, 4min or 1.5h"},
        BadSpec{"blocks: 3", "time_budget: 0min", "7:14", "time from 1s"},
        BadSpec{"blocks: 3", "seed: -1", "7:7", "whole number"},
        BadSpec{"blocks: 3", "equivalence_margin: 2", "7:21", "from 0 to 1"},
        BadSpec{"blocks: 3", "language: de", "7:11", "en or fr"},
        BadSpec{"study: s", "study: a/b", "1:8", "letters, digits"},
        BadSpec{"study: s", "language: en", "1:1", "lacks the key 'study'"},
        BadSpec{"engine: crible", "engine: cribel", "2:18", "did you mean 'crible'?"},
        BadSpec{"engine: crible", "engine: vllm", "2:18", "does not start vllm"},
        BadSpec{", model: m.gguf", "", "2:9", "needs 'model'"},
        BadSpec{"model: m.gguf", "model: m.gguf, url: http://x", "2:9", "engine: url"},
        BadSpec{"model: m.gguf", "modle: m.gguf", "2:26", "did you mean 'model'?"},
        BadSpec{"max-num-seqs: 16", "max-num-seq: 16", "4:15", "did you mean 'max-num-seqs'?"},
        BadSpec{"max-num-seqs: 16", "max-num-seqs: -1", "4:29", "from 0 to 4096"},
        BadSpec{"max-num-seqs: 16", "enable-prefix-caching: maybe", "4:38", "true or false"},
        BadSpec{"max-num-seqs: 32", "max-num-seqs: 16", "5:5", "a and b are the same configuration"},
        BadSpec{"name: b", "name: a", "5:5", "two configurations are named a"},
        BadSpec{"name: b, ", "", "5:5", "configuration 2 needs a 'name'"},
        BadSpec{"blocks: 3", "axes: {max-num-seqs: []}", "7:22", "has no value"},
        BadSpec{"blocks: 3", "axes: {max-num-seqs: [64, 64]}", "7:7", "two configurations are named"},
        BadSpec{"blocks: 3", "axes: {blok-size: [16]}", "7:8", "did you mean 'block-size'?"},
        BadSpec{"blocks: 3", "base: {name: x}", "7:8", "unknown key 'name' in base"},
        BadSpec{"[conversation]", "[converstion]", "6:13", "did you mean 'conversation'?"},
        BadSpec{"[conversation]", "[soak]", "6:13", "does not run the scenario soak"},
        BadSpec{"[conversation]", "[conversation, conversation]", "6:27", "given twice"},
        BadSpec{"[conversation]", "[]", "6:12", "no scenario"},
        BadSpec{"[conversation]", "[conversation: {turn: 3}]", "6:28", "did you mean 'turns'?"},
        BadSpec{"[conversation]", "[conversation: {turns: 0}]", "6:35", "conversation.turns is '0'"},
        BadSpec{"[conversation]", "[conversation: {turns: [1, 2]}]", "6:35", "single value"},
        BadSpec{"ttft_ms.p50", "ttf_ms.p50", "8:33", "did you mean 'ttft_ms'?"},
        BadSpec{"ttft_ms.p50", "ttft_ms.p51", "8:33", "did you mean 'p50'?"},
        BadSpec{"ttft_ms.p50", "ttft_hit_ms", "8:33", "comes from kv_cache"},
        BadSpec{"ttft_ms.p50", "kv_cache/ttft_ms", "8:33", "does not run the scenario 'kv_cache'"},
        BadSpec{"ttft_ms.p50", "conversation/latency_slope", "8:33", "comes from stability"},
        BadSpec{"ttft_ms.p50", "error_rate.p99", "8:33", "rate over all requests"},
        BadSpec{"minimise", "maximise", "8:33", "better when lower, so it must be minimised"},
        BadSpec{"minimise", "minimize", "8:23", "did you mean 'minimise'?"},
        BadSpec{"{minimise: ttft_ms.p50}", "{}", "8:14", "needs 'minimise' or 'maximise'"},
        BadSpec{"{agents: {minimise: ttft_ms.p50}}", "{}", "8:13", "no objective"},
        BadSpec{"ttft_ms.p50}", "ttft_ms.p50, subject_to: {error_rate: 0.01}}", "8:71", "\"<= 0.01\""},
        BadSpec{"ttft_ms.p50}", "ttft_ms.p50, subject_to: {error_rat: \"<= 0.01\"}}", "8:59",
                "did you mean 'error_rate'?"},
        BadSpec{"blocks: 3", "service_levels: {tpott_ms: 3}", "7:18", "did you mean 'tpot_ms'?"}));

TEST(Spec, ReportsBrokenYamlWithItsPlace) {
  EXPECT_THAT(error_of("study: [unclosed\ntarget: x"), HasSubstr("agents.yaml:"));
  EXPECT_THAT(error_of("study: [unclosed\ntarget: x"), HasSubstr("not valid YAML"));
  EXPECT_THAT(error_of("- a\n- b\n"), HasSubstr("must be a mapping"));
  EXPECT_THAT(error_of(""), HasSubstr("lacks the key 'study'"));
  EXPECT_THAT(error_of(std::string(2 << 20, '#')), HasSubstr("larger than"));
}

TEST(Spec, TakesServersThatRunAlready) {
  const StudySpec spec = parse_good(R"(study: running
target: {engine: url, model: qwen, api_key_env: KEY}
configurations:
  - {name: a, url: "http://127.0.0.1:8001"}
  - {name: b, url: "http://127.0.0.1:8002"}
scenarios: [conversation]
objectives: {agents: {minimise: ttft_ms}}
)");
  ASSERT_EQ(spec.configurations.size(), 2u);
  EXPECT_EQ(spec.configurations[1].url, "http://127.0.0.1:8002");
}

TEST(Spec, RefusesTheSameServerTwice) {
  EXPECT_THAT(error_of(R"(study: running
target: {engine: url, url: "http://127.0.0.1:8001"}
configurations: [{name: a}, {name: b}]
scenarios: [conversation]
objectives: {agents: {minimise: ttft_ms}}
)"),
              HasSubstr("measured twice"));
}

// The configuration that states a default and the one that leaves it out are one and the same.
TEST(Spec, SeesEqualityThroughDefaults) {
  EXPECT_THAT(error_of(spec_with("{name: b, max-num-seqs: 32}",
                                 "{name: b, max-num-seqs: 16, enable-prefix-caching: true}")),
              HasSubstr("no knob differs, defaults included"));
}

// Any damage to a spec ends in a value or an error, never in a crash.
TEST(Spec, SurvivesRandomDamage) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 2000; ++round) {
    std::string yaml = kComplete;
    for (int i = 0; i < 3; ++i) {
      const size_t place = random() % yaml.size();
      switch (random() % 3) {
        case 0: yaml.erase(place, 1 + random() % 20); break;
        case 1: yaml[place] = static_cast<char>(random() % 256); break;
        default: yaml.insert(place, std::string(1, "{}[]:,&*\n\"'-"[random() % 12])); break;
      }
    }
    const auto spec = parse_spec(yaml, "x");
    if (spec) {
      EXPECT_FALSE(spec->configurations.empty());
    } else {
      EXPECT_THAT(spec.error().message, StartsWith("x:"));
    }
  }
}

TEST(Tables, HoldUniqueNamesAndConsistentRows) {
  for (const MetricInfo& metric : metric_table()) {
    EXPECT_EQ(find_metric(metric.name), &metric);
    EXPECT_TRUE(is_statistic(metric.default_statistic)) << metric.name;
    EXPECT_FALSE(metric.help.empty());
    for (const std::string_view scenario : metric.scenarios) {
      EXPECT_NE(find_scenario(scenario), nullptr) << metric.name << " " << scenario;
    }
  }
  for (const ScenarioInfo& scenario : scenario_table()) {
    EXPECT_EQ(find_scenario(scenario.name), &scenario);
    for (const ScenarioParameter& parameter : scenario.parameters) {
      for (const double value : parameter.defaults) {
        EXPECT_GE(value, parameter.minimum) << parameter.name;
        EXPECT_LE(value, parameter.maximum) << parameter.name;
      }
    }
  }
}

TEST(Knobs, ComparesAndCountsFeatures) {
  EXPECT_EQ(*canonical_knob("gpu-memory-utilization", "0.900"), "0.9");
  EXPECT_FALSE(canonical_knob("no-such-knob", "1").has_value());
  EXPECT_EQ(knobs_json({{"max-num-seqs", "16"}, {"enable-prefix-caching", "false"}}),
            R"({"enable-prefix-caching":false,"max-num-seqs":16})");
  EXPECT_THAT(differing_knobs({{"max-num-seqs", "16"}}, {{"enable-prefix-caching", "false"}}),
              ElementsAre("enable-prefix-caching", "max-num-seqs"));
  EXPECT_EQ(features_on(R"({"enable-prefix-caching":true,"enable-chunked-prefill":false})"), 1);
  EXPECT_EQ(features_on(R"({"enable_prefix_caching":true,"seed":1})"), 1);
  EXPECT_EQ(features_on("not json"), 0);
}

TEST(Plan, VisitsEveryConfigurationOncePerBlock) {
  const StudySpec spec = parse_good(kComplete);
  const Plan plan = make_plan(spec);
  EXPECT_EQ(plan.trial_count, 4 * 7 * 3);
  ASSERT_EQ(plan.visits.size(), 4u * 7u);
  std::set<std::string> ids, orders;
  std::set<uint64_t> seeds;
  for (int block = 0; block < 4; ++block) {
    std::set<std::string> visited;
    std::string order;
    for (int place = 0; place < 7; ++place) {
      const PlannedVisit& visit = plan.visits[static_cast<size_t>(block * 7 + place)];
      EXPECT_EQ(visit.block, block);
      EXPECT_EQ(visit.order_in_block, place);
      visited.insert(visit.configuration);
      order += visit.configuration + " ";
      for (const PlannedTrial& trial : visit.trials) {
        ids.insert(trial.id);
        seeds.insert(trial.seed);
      }
    }
    EXPECT_EQ(visited.size(), 7u);
    orders.insert(order);
  }
  EXPECT_EQ(ids.size(), 84u);
  EXPECT_EQ(seeds.size(), 84u);
  EXPECT_GT(orders.size(), 1u);
}

// Resume compares ids: the same spec gives the same plan, and more blocks only add to it.
TEST(Plan, IsStable) {
  StudySpec spec = parse_good(kComplete);
  const Plan first = make_plan(spec);
  spec.blocks = 6;
  const Plan longer = make_plan(spec);
  for (size_t i = 0; i < first.visits.size(); ++i) {
    EXPECT_EQ(first.visits[i].configuration, longer.visits[i].configuration);
    for (size_t j = 0; j < first.visits[i].trials.size(); ++j) {
      EXPECT_EQ(first.visits[i].trials[j].id, longer.visits[i].trials[j].id);
      EXPECT_EQ(first.visits[i].trials[j].seed, longer.visits[i].trials[j].seed);
    }
  }
}

// Over many blocks each configuration stands in each place equally often.
TEST(Plan, BalancesPlaces) {
  StudySpec spec = parse_good(spec_with("blocks: 3", "blocks: 1000"));
  int a_first = 0;
  for (const PlannedVisit& visit : make_plan(spec).visits) {
    a_first += visit.order_in_block == 0 && visit.configuration == "a";
  }
  // 1000 fair coins: four standard deviations are 63.
  EXPECT_NEAR(a_first, 500, 63);
}

}  // namespace
}  // namespace crible::study
