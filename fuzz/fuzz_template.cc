// A chat template of any bytes over a conversation with tools: parses and renders within its limits,
// or says why not.
#include "base/check.h"
#include "fuzz/input_text.h"
#include "text/chat_template.h"
#include "text/jinja/json_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace crible;
  static const jinja::Template::Variables kVariables = [] {
    const auto json = nlohmann::ordered_json::parse(R"({
      "messages": [{"role": "system", "content": "Be brief. é"}, {"role": "user", "content": " Hi\n"},
        {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5, true]}}}]},
        {"role": "tool", "content": "<b>&'x'"}],
      "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "array"}}}}}],
      "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "x": 7, "s": "text", "l": [3, 1, 2]})");
    jinja::Template::Variables variables;
    for (const auto& [name, value] : json.items()) variables.emplace_back(name, jinja::from_json(value));
    return variables;
  }();
  const auto parsed = jinja::Template::parse(input_text(data, size));
  if (!parsed) return 0;
  jinja::Limits limits;
  limits.max_steps = 20'000;
  limits.max_string_bytes = 1 << 20;
  const auto rendered =
      parsed->render(kVariables, limits, std::chrono::system_clock::from_time_t(1769862896));
  if (rendered) CHECK(static_cast<int64_t>(rendered->size()) <= limits.max_string_bytes);
  return 0;
}
