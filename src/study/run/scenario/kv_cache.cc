// Pairs on a long shared prefix. The first request of a pair brings a prefix that nobody has sent
// before (MISS); the second asks another question about it (HIT). Whether the second really was one is
// the server's to say: a server without a prefix cache answers it like the first.
#include "load/arrival.h"
#include "study/run/scenario/scenario.h"

namespace crible::study {

ScenarioWork kv_cache_work(const ScenarioSpec& spec) {
  const int requests = 2 * spec.integer("pairs");
  return {
      .requests = requests,
      .prompt_tokens = double(requests) * (spec.integer("prefix_tokens") + spec.integer("question_tokens")),
      .decode_steps = double(requests) * spec.integer("output_tokens")};
}

void run_kv_cache(ScenarioContext& context) {
  const int pairs = context.spec.integer("pairs");
  const int prefix_tokens = context.spec.integer("prefix_tokens");
  const int question_tokens = context.spec.integer("question_tokens");
  const int output_tokens = context.spec.integer("output_tokens");

  load::PromptMaker maker(context.words, context.seed);
  std::vector<std::vector<TokenId>> prefixes;
  for (int pair = 0; pair < pairs; ++pair) prefixes.push_back(maker.tokens(prefix_tokens));

  const auto make = [&](int index, int) {
    std::vector<TokenId> prompt = prefixes[static_cast<size_t>(index / 2)];
    maker.append_tokens(question_tokens, prompt);
    return completion_request(context, prompt, output_tokens);
  };
  const auto record = [&](int index, int stream, load::Exchange&& exchange) {
    context.recorder.add({.role = index % 2 == 0 ? CacheRole::kMiss : CacheRole::kHit,
                          .pair_id = fmt::format("p{}", index / 2),
                          .stream = stream,
                          .prompt_tokens = prefix_tokens + question_tokens,
                          .output_tokens = output_tokens},
                         std::move(exchange));
  };
  load::run_closed_loop(context.client, {.streams = 1, .requests_per_stream = 2 * pairs}, make, record,
                        context.stop);
}

}  // namespace crible::study
