// One frame of an OpenAI completion stream, read without building a document: does it carry a token,
// of which kind, the end's reason, the usage. Validates the whole frame as JSON (RFC 8259), because
// a broken frame is a finding. Understands /v1/completions and /v1/chat/completions alike.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace crible::load {

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t output_tokens = 0;
  std::optional<int64_t> cached_tokens;  // absent when the server does not report it

  bool operator==(const Usage&) const = default;
};

struct CompletionFrame {
  // A non-empty piece of content, reasoning or tool call. A frame with only a role is none.
  bool has_token = false;
  // A non-empty piece of anything but reasoning.
  bool has_output = false;
  std::string_view finish_reason;  // as it stands in the frame; empty = none
  std::optional<Usage> usage;
  std::string error;  // message of an error object; empty = none
};

// `text`, if given, gets the content (not the reasoning) appended as UTF-8. The result's views point
// into `json`.
Result<CompletionFrame> read_completion_frame(std::string_view json, std::string* text);

// The message of an OpenAI-style error body, or the body's beginning if it is not one.
std::string error_message(std::string_view body);

}  // namespace crible::load
