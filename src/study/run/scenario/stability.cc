// The same mix of answer lengths over and over, one request at a time: what the trial shows is whether
// a request takes longer the later it comes. Lengths are forced, so that late requests are no longer
// than early ones.
#include "load/arrival.h"
#include "study/run/scenario/scenario.h"

namespace crible::study {
namespace {

int cycled(const std::vector<int>& lengths, int index) {
  return lengths[static_cast<size_t>(index) % lengths.size()];
}

}  // namespace

ScenarioWork stability_work(const ScenarioSpec& spec) {
  const int requests = spec.integer("requests");
  const std::vector<int> lengths = spec.integers("output_tokens");
  ScenarioWork work{.requests = requests,
                    .prompt_tokens = double(requests) * spec.integer("prompt_tokens"),
                    .pause_s = requests * spec.number("pause_s")};
  for (int i = 0; i < requests; ++i) work.decode_steps += cycled(lengths, i);
  return work;
}

void run_stability(ScenarioContext& context) {
  const int prompt_tokens = context.spec.integer("prompt_tokens");
  const std::vector<int> lengths = context.spec.integers("output_tokens");
  load::PromptMaker maker(context.words, context.seed);

  const auto make = [&](int index, int) {
    return completion_request(context, maker.tokens(prompt_tokens), cycled(lengths, index));
  };
  const auto record = [&](int index, int stream, load::Exchange&& exchange) {
    context.recorder.add(
        {.stream = stream, .prompt_tokens = prompt_tokens, .output_tokens = cycled(lengths, index)},
        std::move(exchange));
  };
  const load::ClosedLoop loop{.streams = 1,
                              .requests_per_stream = context.spec.integer("requests"),
                              .pause = std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(context.spec.number("pause_s")))};
  load::run_closed_loop(context.client, loop, make, record, context.stop);
}

}  // namespace crible::study
