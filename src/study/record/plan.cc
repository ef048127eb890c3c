#include "study/record/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>

namespace crible::study {
namespace {

// SplitMix64 (Steele, Lea and Flood, 2014): one well-mixed word per (seed, position), so that
// adding a scenario does not change the prompts of the others.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

uint64_t mix_text(uint64_t state, const std::string& text) {
  for (const unsigned char byte : text) state = mix(state ^ byte);
  return state;
}

// Fisher and Yates, written out: std::shuffle's order differs between standard libraries.
std::vector<size_t> random_order(size_t count, uint64_t seed) {
  std::vector<size_t> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = i;
  std::mt19937_64 random(seed);
  for (size_t i = count; i > 1; --i) {
    std::swap(order[i - 1], order[random() % i]);
  }
  return order;
}

}  // namespace

Plan make_plan(const StudySpec& spec) {
  Plan plan;
  for (int block = 0; block < spec.blocks; ++block) {
    const uint64_t block_seed = mix(spec.seed ^ mix(static_cast<uint64_t>(block)));
    int place = 0;
    for (const size_t index : random_order(spec.configurations.size(), block_seed)) {
      PlannedVisit visit;
      visit.block = block;
      visit.order_in_block = place++;
      visit.configuration = spec.configurations[index].name;
      for (const ScenarioSpec& scenario : spec.scenarios) {
        PlannedTrial trial;
        trial.id = fmt::format("b{}/{}/{}", block, visit.configuration, scenario.name);
        trial.scenario = scenario.name;
        trial.seed = mix_text(mix(spec.seed), trial.id);
        visit.trials.push_back(std::move(trial));
        ++plan.trial_count;
      }
      plan.visits.push_back(std::move(visit));
    }
  }
  return plan;
}

}  // namespace crible::study
