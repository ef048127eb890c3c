#include "study/record/scenario_table.h"

namespace crible::study {
namespace {

constexpr double kMostTokens = 1 << 20;
constexpr double kMostRequests = 1e6;

ScenarioParameter integer(std::string_view name, double value, double minimum, double maximum,
                          std::string_view help) {
  return {name, {value}, false, true, minimum, maximum, help};
}

ScenarioParameter integers(std::string_view name, std::vector<double> values, double minimum,
                           double maximum, std::string_view help) {
  return {name, std::move(values), true, true, minimum, maximum, help};
}

ScenarioParameter number(std::string_view name, double value, double minimum, double maximum,
                         std::string_view help) {
  return {name, {value}, false, false, minimum, maximum, help};
}

std::vector<ScenarioInfo> make_table() {
  return {
      {"kv_cache",
       {integer("pairs", 6, 1, kMostRequests, "MISS/HIT pairs, each on a prefix of its own"),
        integer("prefix_tokens", 1024, 32, kMostTokens, "length of the shared prefix"),
        integer("question_tokens", 16, 1, kMostTokens, "what follows the prefix, new each time"),
        integer("output_tokens", 8, 1, kMostTokens, "tokens to generate")},
       "pairs of requests on long shared prefixes: the first computes, the second finds it cached"},
      {"conversation",
       {integer("conversations", 2, 1, kMostRequests, "conversations, one after another per stream"),
        integer("turns", 10, 1, 1000, "turns of each; the history grows"),
        integer("system_tokens", 128, 0, kMostTokens, "length of the system prompt"),
        integer("user_tokens", 32, 1, kMostTokens, "length of each user message"),
        integer("output_tokens", 32, 1, kMostTokens, "length of each answer"),
        integer("streams", 1, 1, 4096, "conversations at once")},
       "chat of many turns, each sent with its whole history"},
      {"stability",
       {integer("requests", 20, 4, kMostRequests, "requests, one after another"),
        integer("prompt_tokens", 64, 1, kMostTokens, "length of each prompt, all distinct"),
        integers("output_tokens", {100, 800, 50, 900}, 1, kMostTokens, "answer lengths, in a cycle"),
        number("pause_s", 0, 0, 3600, "pause between requests")},
       "a fixed mix over time: does latency grow from request to request?"},
      {"concurrency",
       {integers("levels", {1, 4, 16}, 1, 4096, "closed loop: streams at once, one step per level"),
        integer("requests_per_stream", 2, 1, kMostRequests, "requests of each stream in each step"),
        integer("prompt_tokens", 128, 1, kMostTokens, "length of each prompt, all distinct"),
        integer("output_tokens", 32, 1, kMostTokens, "tokens to generate")},
       "rising load: throughput and latency against the number of streams"},
  };
}

}  // namespace

std::span<const ScenarioInfo> scenario_table() {
  static const std::vector<ScenarioInfo> table = make_table();
  return table;
}

const ScenarioInfo* find_scenario(std::string_view name) {
  for (const ScenarioInfo& scenario : scenario_table()) {
    if (scenario.name == name) return &scenario;
  }
  return nullptr;
}

}  // namespace crible::study
