#include "study/run/attempt.h"

namespace crible::study {

StepFailure from_error(const Error& error) {
  switch (error.code) {
    case ErrorCode::kDeadlineExceeded: return {FailureCause::kTimeout, error.message, {}, false, false};
    case ErrorCode::kUnauthorized: return {FailureCause::kAuth, error.message, {}, false, false};
    case ErrorCode::kResourceExhausted: return {FailureCause::kOutOfMemory, error.message, {}, false, false};
    default: return {FailureCause::kUnknown, error.message, {}, false, false};
  }
}

}  // namespace crible::study
