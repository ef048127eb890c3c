// What the golden file cannot say: error messages with their lines, what is refused, and Python
// semantics that deserve a name.
#include "text/jinja/template.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "text/jinja/json_text.h"

namespace crible::jinja {
namespace {

Result<std::string> render(const std::string& source, const nlohmann::ordered_json& json = {}) {
  const auto parsed = Template::parse(source);
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  Template::Variables variables;
  if (json.is_object()) {
    for (const auto& [name, value] : json.items()) variables.emplace_back(name, from_json(value));
  }
  return parsed->render(variables, Limits{}, {});
}

std::string output(const std::string& source, const nlohmann::ordered_json& json = {}) {
  const auto rendered = render(source, json);
  return rendered ? *rendered : "error: " + rendered.error().message;
}

struct Case {
  const char* source;
  const char* expected;
};

class OutputTest : public testing::TestWithParam<Case> {};

TEST_P(OutputTest, Renders) {
  EXPECT_EQ(output(GetParam().source), GetParam().expected);
}

INSTANTIATE_TEST_SUITE_P(
    WhiteSpace, OutputTest,
    testing::Values(Case{"a\n{% if true %}\nb\n{% endif %}\nc\n", "a\nb\nc"},
                    Case{"  {% if true %}x{% endif %}", "x"}, Case{"  {{ 'x' }}\n", "  x"},
                    Case{"a  {%- if true -%}  b  {%- endif -%}  c", "abc"},
                    Case{"  {%+ if true %}x{% endif %}", "  x"}, Case{"{% if true +%}\nx{% endif %}", "\nx"},
                    Case{"a\r\nb\rc", "a\nb\nc"}, Case{"a {#- gone -#} b", "ab"}, Case{"{# one #}\nb", "b"},
                    Case{"{% raw %}\n{{ x }}{% endraw %}\ny", "\n{{ x }}y"}, Case{"x\n\n", "x\n"}));

INSTANTIATE_TEST_SUITE_P(
    Python, OutputTest,
    testing::Values(Case{"{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }}", "-4 2 -2"},
                    Case{"{{ 1 / 2 }} {{ 4 / 2 }} {{ 1e16 }} {{ 1e-5 }} {{ 0.1 + 0.2 }}",
                         "0.5 2.0 1e+16 1e-05 0.30000000000000004"},
                    Case{"{{ true + 1 }} {{ 1 == 1.0 }} {{ 'a' * 3 }} {{ [1] * 2 }}", "2 True aaa [1, 1]"},
                    Case{"{{ (1,) }} {{ () }} {{ {'a': none} }}", "(1,) () {'a': None}"},
                    Case{"{{ ['it\\'s', \"q\"] }}", "[\"it's\", 'q']"},
                    Case{"{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }}", "True False"}, Case{"{{ 2 ** 3 ** 2 }}", "64"},
                    Case{"{{ -2 ** 2 }}", "4"},
                    Case{"{{ 'abc'[::-1] }} {{ [1,2,3][-2:] }} {{ 'aé日'[1:] }}", "cba [2, 3] é日"},
                    Case{"{{ 9007199254740993 == 9007199254740992.0 }}", "False"},
                    Case{"{{ 'x' if false }}|{{ missing }}|{{ (missing.a is defined) if false }}", "||"},
                    Case{"{{ [missing] }}", "[Undefined]"},
                    Case{"{{ {1: 'a', '1': 'b'} | tojson }}", "{\"1\": \"a\", \"1\": \"b\"}"},
                    Case{"{{ {1: 'a', 1.0: 'b', true: 'c'} }}", "{1: 'c'}"}));

INSTANTIATE_TEST_SUITE_P(
    Scopes, OutputTest,
    testing::Values(Case{"{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", "21"},
                    Case{"{% if true %}{% set x = 1 %}{% endif %}{{ x }}", "1"},
                    Case{"{% for i in [1,2] %}{{ x }}{% set x = i %}{% endfor %}", ""},
                    Case{"{% macro m() %}{{ x }}{% endmacro %}{% set x = 3 %}{{ m() }}", "3"},
                    Case{"{% set ns = namespace(a=1) %}{% for i in [1,2] %}{% set ns.a = ns.a + i %}{% "
                         "endfor %}{{ ns.a }}",
                         "4"},
                    Case{"{% for i in [1,2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
                         "12"},
                    Case{"{% with a = 1 %}{{ a }}{% endwith %}{{ a }}", "1"},
                    Case{"{% set g = [1,2]|select %}{{ g|list }}{{ g|list }}", "[1, 2][]"}));

INSTANTIATE_TEST_SUITE_P(
    Errors, OutputTest,
    testing::Values(
        Case{"\n{{ a.b }}", "error: template line 2: 'a' is undefined"},
        Case{"{{ f() }}", "error: template line 1: 'f' is undefined, so it cannot be called"},
        Case{"{{ 1 + 'a' }}", "error: template line 1: '+' is not defined between int and str"},
        Case{"{{ 1 / 0 }}", "error: template line 1: division by zero"},
        Case{"{{ 9223372036854775807 + 1 }}",
             "error: template line 1: the result of + does not fit in 64 bits"},
        Case{"{{ [1].append(2) }}",
             "error: template line 1: a list cannot be changed in place; assign a new one, or use a "
             "namespace"},
        Case{"{% for x in 5 %}{% endfor %}", "error: template line 1: a int cannot be iterated"},
        Case{"a\n\n{% if x %}",
             "error: template line 3: expected a endif tag, found the end of the template"},
        Case{"{{ x | nope }}", "error: template line 1: there is no filter named 'nope'"},
        Case{"{{ x is nope }}", "error: template line 1: there is no test named 'nope'"},
        Case{"{% for x in y recursive %}{% endfor %}",
             "error: template line 1: recursive loops are not supported; use a macro"},
        Case{"{% include 'x' %}",
             "error: template line 1: the tag 'include' is not supported in chat templates"},
        Case{"{% bogus %}", "error: template line 1: unknown tag 'bogus'"},
        Case{"{{ 'abc }}", "error: template line 1: a string lacks its closing '"},
        Case{"x\n{{ a", "error: template line 2: a tag lacks its '}}'"},
        Case{"{{ (1 }}", "error: template line 1: unexpected '}'"},
        Case{"{% break %}", "error: template line 1: 'break' stands outside a loop"},
        Case{"{{ f(*a) }}", "error: template line 1: * and ** arguments are not supported"},
        Case{"{% set true = 1 %}", "error: template line 1: 'true' cannot be assigned to"},
        Case{"{% set x = 1 %}{% set x.y = 2 %}",
             "error: template line 1: 'x' is not a namespace, so its attribute 'y' cannot be assigned"},
        Case{"{{ 'a'.strip(1) }}",
             "error: template line 1: argument 'chars' of strip must be a string, not int"},
        Case{"{{ 'a'.strip(x=1) }}", "error: template line 1: strip has no argument named 'x'"},
        Case{"{{ strftime_now('%9Y') }}",
             "error: template line 1: '%9Y' is not a format that strftime_now knows"}));

TEST(TemplateTest, UnknownFilterInABranchNotTakenIsNoError) {
  EXPECT_EQ(output("{% if false %}{{ x | nope }}{% else %}ok{% endif %}"), "ok");
  EXPECT_EQ(output("{{ (x | nope) if false else 'ok' }}"), "ok");
}

TEST(TemplateTest, MethodsOfADictComeBeforeItsKeysWithADotOnly) {
  EXPECT_EQ(output("{{ d['items'] }}{{ d.items()|list }}", {{"d", {{"items", 1}}}}), "1[('items', 1)]");
}

TEST(TemplateTest, JsonKeepsOrderAndTextAsItIs) {
  const nlohmann::ordered_json json = {{"z", {{"é", "</\u2028\"\\\n\x01"}, {"a", {1, 2.0, true, nullptr}}}}};
  EXPECT_EQ(output("{{ z | tojson }}", json),
            "{\"é\": \"</\u2028\\\"\\\\\\n\\u0001\", \"a\": [1, 2.0, true, null]}");
  EXPECT_EQ(output("{{ z.a | tojson(indent=1) }}", json), "[\n 1,\n 2.0,\n true,\n null\n]");
}

TEST(TemplateTest, LargeDictsKeepOrderAndFindTheirKeys) {
  nlohmann::ordered_json json;
  std::string expected;
  for (int i = 0; i < 200; ++i) {
    json["d"]["key" + std::to_string(200 - i)] = i;
    expected += std::to_string(i) + " ";
  }
  EXPECT_EQ(output("{% for k in d %}{{ d[k] }} {% endfor %}", json), expected);
}

TEST(TemplateTest, UnsignedNumbersBeyond64BitsBecomeFloats) {
  EXPECT_EQ(output("{{ x }}", {{"x", UINT64_MAX}}), "1.8446744073709552e+19");
}

TEST(TemplateTest, TextThatIsNotUtf8PassesThrough) {
  EXPECT_EQ(output("\xff{{ '\xe9' ~ 'a' | upper }}{{ '\xe9x'[1:] }}"),
            "\xff\xe9"
            "Ax");
}

}  // namespace
}  // namespace crible::jinja
