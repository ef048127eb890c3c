#include "base/check.h"
#include "study/run/scenario/scenario.h"

namespace crible::study {
namespace {

constexpr Scenario kScenarios[] = {
    {"kv_cache", run_kv_cache, kv_cache_work, "pairs"},
    {"conversation", run_conversation, conversation_work, "conversations"},
    {"stability", run_stability, stability_work, "requests"},
    {"concurrency", run_concurrency, concurrency_work, "requests_per_stream"},
};

}  // namespace

const Scenario& scenario_named(std::string_view name) {
  for (const Scenario& scenario : kScenarios) {
    if (scenario.name == name) return scenario;
  }
  CHECK(false, "no scenario '{}'", name);
}

load::Request completion_request(const ScenarioContext& context, std::span<const TokenId> prompt,
                                 int output_tokens) {
  return {.path = "/v1/completions",
          .body = load::completion_body(context.model, prompt, output_tokens, true),
          .expected_tokens = output_tokens,
          .keep_text = false,
          .timeout = context.request_timeout};
}

}  // namespace crible::study
