// Rising load, closed loop: at each level so many streams, each sending its next request when its last
// has ended. All prompts differ, so nothing is shared.
#include "load/arrival.h"
#include "study/run/scenario/scenario.h"

namespace crible::study {
namespace {

// A step over a batch costs more than over one sequence, but far less than each alone: an estimate
// for planning time only.
constexpr double kStepGrowthPerStream = 0.15;

}  // namespace

ScenarioWork concurrency_work(const ScenarioSpec& spec) {
  const int per_stream = spec.integer("requests_per_stream");
  ScenarioWork work;
  for (const int level : spec.integers("levels")) {
    const int requests = level * per_stream;
    work.requests += requests;
    work.prompt_tokens += double(requests) * spec.integer("prompt_tokens");
    work.decode_steps +=
        per_stream * double(spec.integer("output_tokens")) * (1 + kStepGrowthPerStream * (level - 1));
  }
  return work;
}

void run_concurrency(ScenarioContext& context) {
  const int per_stream = context.spec.integer("requests_per_stream");
  const int prompt_tokens = context.spec.integer("prompt_tokens");
  const int output_tokens = context.spec.integer("output_tokens");
  load::PromptMaker maker(context.words, context.seed);

  for (const int level : context.spec.integers("levels")) {
    if (context.stop) return;
    const auto make = [&](int, int) {
      return completion_request(context, maker.tokens(prompt_tokens), output_tokens);
    };
    const auto record = [&](int, int stream, load::Exchange&& exchange) {
      context.recorder.add(
          {.stream = stream, .level = level, .prompt_tokens = prompt_tokens, .output_tokens = output_tokens},
          std::move(exchange));
    };
    load::run_closed_loop(context.client, {.streams = level, .requests_per_stream = per_stream}, make, record,
                          context.stop);
  }
}

}  // namespace crible::study
