#include "load/completion_frame.h"

#include "load/json_cursor.h"

namespace crible::load {
namespace {

class FrameReader {
 public:
  FrameReader(std::string_view json, std::string* text) : cursor_(json), text_(text) {}

  Result<CompletionFrame> read() {
    cursor_.each_member([&](std::string_view key) {
      if (key == "choices") {
        read_choices();
      } else if (key == "usage" && cursor_.peek() == '{') {
        read_usage();
      } else if (key == "error") {
        read_error();
      } else {
        cursor_.skip_value();
      }
    });
    if (!cursor_.ok() || !cursor_.at_end())
      return fail(ErrorCode::kCorrupt, "a frame of the stream is not valid JSON");
    return std::move(frame_);
  }

 private:
  void read_choices() {
    if (cursor_.take_null()) return;
    cursor_.each_element([&] {
      cursor_.each_member([&](std::string_view key) {
        if (key == "delta" && cursor_.peek() == '{') {
          read_delta();
        } else if (key == "text") {
          read_content();
        } else if (key == "finish_reason" && cursor_.peek() == '"') {
          frame_.finish_reason = cursor_.take_string();
        } else {
          cursor_.skip_value();
        }
      });
    });
  }

  void read_delta() {
    cursor_.each_member([&](std::string_view key) {
      if (key == "content" || key == "refusal") {
        read_content();
      } else if (key == "reasoning" || key == "reasoning_content") {
        if (cursor_.peek() == '"') {
          frame_.has_token |= !cursor_.take_string().empty();
        } else {
          cursor_.skip_value();
        }
      } else if (key == "tool_calls" && cursor_.peek() == '[') {
        cursor_.each_element([&] {
          frame_.has_token = frame_.has_output = true;
          cursor_.skip_value();
        });
      } else {
        cursor_.skip_value();
      }
    });
  }

  void read_content() {
    if (cursor_.peek() != '"') return cursor_.skip_value();
    const std::string_view raw = cursor_.take_string();
    if (raw.empty()) return;
    frame_.has_token = frame_.has_output = true;
    if (text_ != nullptr) append_unescaped(raw, *text_);
  }

  void read_usage() {
    Usage usage;
    cursor_.each_member([&](std::string_view key) {
      if (key == "prompt_tokens") {
        usage.prompt_tokens = cursor_.take_integer();
      } else if (key == "completion_tokens") {
        usage.output_tokens = cursor_.take_integer();
      } else if (key == "prompt_tokens_details" && cursor_.peek() == '{') {
        cursor_.each_member([&](std::string_view detail) {
          if (detail == "cached_tokens" && cursor_.peek() != 'n') {
            usage.cached_tokens = cursor_.take_integer();
          } else {
            cursor_.skip_value();
          }
        });
      } else {
        cursor_.skip_value();
      }
    });
    frame_.usage = usage;
  }

  void read_error() {
    if (cursor_.take_null()) return;
    if (cursor_.peek() == '"') {
      append_unescaped(cursor_.take_string(), frame_.error);
    } else if (cursor_.peek() == '{') {
      cursor_.each_member([&](std::string_view key) {
        if (key == "message" && cursor_.peek() == '"') {
          append_unescaped(cursor_.take_string(), frame_.error);
        } else {
          cursor_.skip_value();
        }
      });
    } else {
      cursor_.skip_value();
    }
    if (frame_.error.empty()) frame_.error = "error without a message";
  }

  JsonCursor cursor_;
  std::string* text_;
  CompletionFrame frame_;
};

}  // namespace

Result<CompletionFrame> read_completion_frame(std::string_view json, std::string* text) {
  return FrameReader(json, text).read();
}

std::string error_message(std::string_view body) {
  const auto frame = read_completion_frame(body, nullptr);
  if (frame && !frame->error.empty()) return frame->error;
  constexpr size_t kShown = 300;
  return std::string(body.substr(0, kShown));
}

}  // namespace crible::load
