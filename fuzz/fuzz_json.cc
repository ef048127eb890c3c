// JSON of any bytes: from a client into the requests of the API, and from a server through the load
// generator's cursor. The two readers agree on what is JSON.
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "fuzz/input_text.h"
#include "load/completion_frame.h"
#include "load/json_cursor.h"
#include "wire/chat_request.h"
#include "wire/completion_request.h"
#include "wire/json_text.h"
#include "wire/tokenize_request.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crible;
  const std::string_view text = input_text(data, size);
  load::JsonCursor cursor(text);
  cursor.skip_value();
  const bool cursor_accepts = cursor.ok() && cursor.at_end();
  std::string content;
  (void)load::read_completion_frame(text, &content);
  (void)load::error_message(text);
  const auto document = parse_json(text);
  if (!document) return 0;
  CHECK(cursor_accepts, "the cursor refuses what the parser takes");
  (void)read_completion_request(*document);
  (void)read_chat_request(*document);
  (void)read_tokenize_request(*document);
  (void)read_detokenize_request(*document);
  // What is written is read again as the same.
  const auto again = parse_json(document->dump());
  CHECK(again && *again == *document);
  if (document->is_string()) {
    std::string quoted;
    append_json_string(quoted, document->get_ref<const std::string&>());
    const auto reread = parse_json(quoted);
    CHECK(reread && *reread == *document);
  }
  return 0;
}
