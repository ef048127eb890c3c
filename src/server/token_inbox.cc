#include "server/token_inbox.h"

#include "server/completion_job.h"

namespace crible {

void TokenInbox::push(std::shared_ptr<CompletionJob> job, int choice, const TokenOutput& output) {
  queue_.enqueue(Event{std::move(job), choice, output});
  if (!wake_pending_.exchange(true)) wake_();
}

void TokenInbox::drain() {
  // Lowered first: what is pushed from here on either is seen below or wakes again.
  wake_pending_.exchange(false);
  Event event;
  while (queue_.try_dequeue(event)) event.job->receive(event.choice, event.output);
}

}  // namespace crible
