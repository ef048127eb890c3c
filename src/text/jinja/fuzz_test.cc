// Seeded mutations of real templates and of random bytes: whatever comes, parse and render return.
// Run under the address sanitizer too, where a wild read would show.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <random>

#include "base/atomic_file.h"
#include "text/jinja/json_text.h"
#include "text/jinja/template.h"

namespace crible::jinja {
namespace {

const char* const kPieces[] = {
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "-%}",
    "{%-",
    "{%+",
    "+%}",
    "{% endif %}",
    "{% else %}",
    "{% endfor %}",
    "{% if x %}",
    "{% for m in messages %}",
    "{% set x = ",
    "{% raw %}",
    "{% endraw %}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "|",
    ".",
    ",",
    ":",
    "'",
    "\"",
    "\\",
    "not ",
    " is ",
    " in ",
    " if ",
    " else ",
    "~",
    "**",
    "//",
    "-",
    "0",
    "-1",
    "9223372036854775807",
    "1e308",
    "loop.",
    "messages",
    "messages[-1]",
    ".content",
    "namespace(",
    "range(",
    "caller()",
    "|tojson",
    "|list",
    "|join(",
    "|map(",
    "|selectattr(",
    "|sort",
    "|int",
    "|round(-5)",
    "[::-1]",
    "[::",
    ".split(",
    ".format(",
    "%",
    "\n",
    "\xff",
    "é",
    "{% macro m(",
    "{% endmacro %}",
    "{% call ",
    "{% break %}",
};

class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  std::string mutate(std::string text) {
    const size_t changes = 1 + below(6);
    for (size_t i = 0; i < changes; ++i) change(text);
    return text;
  }

  std::string pieces() {
    std::string text;
    for (size_t i = 0; i < 2 + below(30); ++i) text += kPieces[below(std::size(kPieces))];
    return text;
  }

  size_t below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

 private:
  void change(std::string& text) {
    const size_t at = below(text.size() + 1);
    switch (below(5)) {
      case 0: text.insert(at, kPieces[below(std::size(kPieces))]); break;
      case 1: text.erase(at, below(12)); break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(random_());
        break;
      case 3: text.insert(at, text.substr(below(text.size() + 1), below(60))); break;
      default: text.resize(at);
    }
  }

  std::mt19937 random_;
};

Template::Variables variables() {
  const auto json = nlohmann::ordered_json::parse(
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "é <think>a</think>b"},
          {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": [1, 2.5]}}}]}],
          "tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": {"type": "string"}}}}}],
          "add_generation_prompt": true, "bos_token": "<s>", "eos_token": "</s>", "x": 3})");
  Template::Variables variables;
  for (const auto& [name, value] : json.items()) variables.emplace_back(name, from_json(value));
  return variables;
}

struct Tally {
  int parsed = 0;
  int rendered = 0;
};

void attempt(const std::string& source, const Template::Variables& variables, Tally& tally) {
  Limits limits;
  limits.max_steps = 20'000;  // a mutant may loop: keep the test short
  const auto parsed = Template::parse(source);
  if (!parsed) {
    EXPECT_FALSE(parsed.error().message.empty());
    return;
  }
  ++tally.parsed;
  const auto rendered = parsed->render(variables, limits, {});
  if (rendered) {
    ++tally.rendered;
  } else {
    EXPECT_NE(rendered.error().message.find("template line "), std::string::npos);
  }
}

TEST(FuzzTest, MutatedTemplatesReturn) {
  const Template::Variables given = variables();
  Mutator mutator(20260131);
  Tally tally;
  for (const auto& entry :
       std::filesystem::directory_iterator(CRIBLE_SOURCE_DIR "/tests/cases/chat_templates")) {
    const auto source = read_file(entry.path());
    ASSERT_TRUE(source);
    for (int i = 0; i < 300; ++i) attempt(mutator.mutate(*source), given, tally);
  }
  // The mutations are small enough that many templates stay well-formed; else this tests nothing.
  EXPECT_GT(tally.parsed, 300);
  EXPECT_GT(tally.rendered, 100);
}

TEST(FuzzTest, RandomPiecesReturn) {
  const Template::Variables given = variables();
  Mutator mutator(7);
  Tally tally;
  for (int i = 0; i < 20'000; ++i) attempt(mutator.pieces(), given, tally);
  EXPECT_GT(tally.parsed, 20);
}

TEST(FuzzTest, RandomExpressionsOfTheGoldenFileReturnWhenMutated) {
  const auto text = read_file(CRIBLE_SOURCE_DIR "/tests/golden/chat_templates.json");
  ASSERT_TRUE(text);
  const auto golden = nlohmann::ordered_json::parse(*text);
  Template::Variables given;
  for (const auto& [name, value] : golden["variables"].items()) given.emplace_back(name, from_json(value));
  Mutator mutator(11);
  Tally tally;
  for (const auto& pair : golden["expressions"]) {
    attempt("{{ " + mutator.mutate(pair[0].get<std::string>()) + " }}", given, tally);
  }
  EXPECT_GT(tally.rendered, 100);
}

}  // namespace
}  // namespace crible::jinja
