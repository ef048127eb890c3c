#include "server/token_inbox.h"

#include "server/completion_job.h"

namespace crible {

void TokenInbox::push(std::shared_ptr<CompletionJob> job, int choice, const TokenOutput& output) {
  Event event{std::move(job), choice, output, {}, {}};
  event.logprobs.assign(output.logprobs.begin(), output.logprobs.end());
  event.prompt_logprobs.assign(output.prompt_logprobs.begin(), output.prompt_logprobs.end());
  queue_.enqueue(std::move(event));
  if (!wake_pending_.exchange(true)) wake_();
}

void TokenInbox::drain() {
  // Lowered first: what is pushed from here on either is seen below or wakes again.
  wake_pending_.exchange(false);
  Event event;
  while (queue_.try_dequeue(event)) {
    event.output.logprobs = event.logprobs;
    event.output.prompt_logprobs = event.prompt_logprobs;
    event.job->receive(event.choice, event.output);
  }
}

}  // namespace crible
