// How a step of a study fails: a cause that the record understands, a sentence, the evidence. A failed
// step is data and the study goes on, unless `stops_study` says that going on would measure the wrong
// thing, or the operator interrupted.
#pragma once

#include <string>
#include <tl/expected.hpp>
#include <vector>

#include "base/result.h"
#include "study/record/trial.h"

namespace crible::study {

struct StepFailure {
  FailureCause cause = FailureCause::kUnknown;
  std::string message;
  std::vector<std::string> evidence;
  bool stops_study = false;
  bool interrupted = false;
};

template <typename T>
using Attempt = tl::expected<T, StepFailure>;

inline tl::unexpected<StepFailure> step_failed(FailureCause cause, std::string message,
                                               std::vector<std::string> evidence = {}) {
  return tl::unexpected(StepFailure{cause, std::move(message), std::move(evidence), false, false});
}

inline tl::unexpected<StepFailure> study_stopped(FailureCause cause, std::string message,
                                                 std::vector<std::string> evidence = {}) {
  return tl::unexpected(StepFailure{cause, std::move(message), std::move(evidence), true, false});
}

inline tl::unexpected<StepFailure> interrupted() {
  return tl::unexpected(StepFailure{FailureCause::kUnknown, "interrupted", {}, true, true});
}

// A call to the server that failed, as a cause: no answer in time, refused key, or unknown.
StepFailure from_error(const Error& error);

}  // namespace crible::study

// CRIBLE_ATTEMPT(auto x, step());  passes on the failure of an Attempt, or binds its value.
#define CRIBLE_ATTEMPT(declaration, expression) \
  CRIBLE_ATTEMPT_IMPL(CRIBLE_CONCAT(attempt_, __LINE__), declaration, expression)
#define CRIBLE_ATTEMPT_IMPL(name, declaration, expression) \
  auto name = (expression);                                \
  if (!name) return tl::unexpected(name.error());          \
  declaration = std::move(*name)
