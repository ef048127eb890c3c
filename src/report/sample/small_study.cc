#include "report/sample/small_study.h"

#include "study/record/metrics.h"

namespace crible::report {
namespace {

study::MetricSummary summary(const std::string& scenario, double p50, double low, double high, int64_t n) {
  study::MetricSummary value;
  value.scenario = scenario;
  value.p50 = p50;
  value.ci95 = study::Interval{low, high};
  value.n = n;
  value.mean = p50;
  value.min = low;
  value.max = high;
  value.blocks = {0, 1};
  value.block_values = {low, high};
  return value;
}

study::ConfigurationResult configuration(const std::string& name, const std::string& prefix) {
  study::ConfigurationResult value;
  value.name = name;
  value.requested = {{"enable-prefix-caching", prefix}, {"max-num-seqs", "32"}};
  value.requested_json = "{\"enable-prefix-caching\":" + prefix + ",\"max-num-seqs\":32}";
  value.resolved_json = value.requested_json;
  value.effective_json = value.requested_json;
  value.command_line = {"crible", "serve", "m.gguf"};
  value.status = study::ConfigurationStatus::kMeasured;
  value.features_on = prefix == "true" ? 1 : 0;
  value.trials_planned = 2;
  value.trials_done = 2;
  for (const study::MetricInfo& metric : study::metric_table())
    value.metrics[std::string(metric.name)] = std::nullopt;
  return value;
}

void add(study::ConfigurationResult& configuration, const std::string& metric, study::MetricSummary value) {
  for (const int block : {0, 1}) {
    value.trial_ids.push_back("b" + std::to_string(block) + "/" + configuration.name + "/kv_cache");
  }
  configuration.metrics[metric] = value;
  configuration.by_scenario["kv_cache"][metric] = value;
}

}  // namespace

// `cached` halves TTFT (repeat) against `plain` (1000 to 500 ms) and costs nothing in TTFT (MISS).
study::StudyResult make_small_study() {
  study::StudyResult study;
  study.spec.name = "small";
  study.spec.target.model = "m.gguf";
  study.spec.blocks = 2;
  study.spec.seed = 3;
  study.spec.scenarios = {{"kv_cache", {{"pairs", {6}}}}};
  study.spec.source_text = "study: small\n";
  study.machine = {"host", "CPU", 2, "avx2", 1LL << 33, "cpu", 1LL << 30, "Linux", "0.1.0"};
  study.model = {"m", "m.gguf", "llama", "Q4_1", 1000, 2000, 512, ""};
  study.started_wall_time = "2026-01-02T03:04:05Z";
  study.ended_wall_time = "2026-01-02T03:05:05Z";
  study.complete = true;
  study.trials_planned = 4;
  study.trials_done = 4;
  study.requests = 48;
  study.measured_s = 60;
  study.configurations = {configuration("plain", "false"), configuration("cached", "true")};
  add(study.configurations[0], "ttft_miss_ms", summary("kv_cache", 1000, 980, 1020, 12));
  add(study.configurations[0], "ttft_repeat_ms", summary("kv_cache", 1000, 990, 1010, 12));
  add(study.configurations[1], "ttft_miss_ms", summary("kv_cache", 1002, 985, 1019, 12));
  add(study.configurations[1], "ttft_hit_ms", summary("kv_cache", 500, 490, 510, 12));
  add(study.configurations[1], "ttft_repeat_ms", summary("kv_cache", 500, 490, 510, 12));
  add(study.configurations[1], "acceleration", summary("kv_cache", 2.004, 1.95, 2.06, 12));

  study::Contrast repeat;
  repeat.reference = {"kv_cache", "ttft_repeat_ms", "p50"};
  repeat.objectives = {"production"};
  repeat.a = "plain";
  repeat.b = "cached";
  repeat.blocks = 2;
  repeat.effect = 2;
  repeat.ci95 = study::Interval{1.6, 2.5};
  repeat.simultaneous = study::Interval{1.6, 2.5};
  repeat.p = 0.01;
  repeat.adjusted_p = 0.01;
  repeat.decided = true;
  study::Contrast miss = repeat;
  miss.reference.metric = "ttft_miss_ms";
  miss.objectives.clear();
  miss.effect = 0.998;
  miss.ci95 = study::Interval{0.98, 1.016};
  miss.simultaneous = miss.ci95;
  miss.p = 0.6;
  miss.adjusted_p = 0.6;
  miss.decided = false;
  miss.equivalent = true;
  study.contrasts = {repeat, miss};

  study::Verdict verdict;
  verdict.objective = "production";
  verdict.reference = repeat.reference;
  verdict.kind = study::VerdictKind::kWinner;
  verdict.configuration = "cached";
  verdict.leading = "cached";
  verdict.contenders = {"cached"};
  study::VerdictReason reason;
  reason.kind = study::ReasonKind::kBeatsRival;
  reason.configuration = "cached";
  reason.rival = "plain";
  reason.contrast = 0;
  verdict.reasons = {reason};
  study.verdicts = {verdict};
  study.artifacts = {{"store", "study.sqlite", ""}};
  return study;
}

}  // namespace crible::report
