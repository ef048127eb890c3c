// A tokenizer.json of any bytes: refused with a reason, or a tokenizer that works.
#include "fuzz/input_text.h"
#include "fuzz/tokenizer_exercise.h"
#include "text/tokenizer_json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  auto parts = crible::read_tokenizer_json(input_text(data, size), "fuzz.json");
  if (!parts) {
    CHECK(crible::is_valid_utf8(parts.error().message));
    return 0;
  }
  if (const auto tokenizer = crible::Tokenizer::make(*std::move(parts)))
    crible::exercise_tokenizer(**tokenizer);
  return 0;
}
