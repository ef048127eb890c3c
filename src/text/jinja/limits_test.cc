// Templates that would run or grow without end, or nest without bound, end in an error. The test
// counts steps, not time; that a step is short is the bench's business.
#include <gtest/gtest.h>

#include <string>

#include "text/jinja/template.h"

namespace crible::jinja {
namespace {

Result<std::string> render(const std::string& source) {
  const auto parsed = Template::parse(source);
  if (!parsed) return tl::unexpected<Error>(parsed.error());
  return parsed->render({}, Limits{}, {});
}

std::string repeated(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

class ExhaustionTest : public testing::TestWithParam<std::string> {};

TEST_P(ExhaustionTest, EndsInAnError) {
  const auto rendered = render(GetParam());
  ASSERT_FALSE(rendered) << rendered->size();
  EXPECT_TRUE(rendered.error().code == ErrorCode::kResourceExhausted ||
              rendered.error().code == ErrorCode::kInvalidArgument)
      << rendered.error().message;
}

const std::string kDoubling = "{% set ns = namespace(x=";

INSTANTIATE_TEST_SUITE_P(
    Runtime, ExhaustionTest,
    testing::Values(
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{{ range(100001) }}", "{{ range(0, 9223372036854775807) | list }}",
        "{{ range(-9223372036854775807, 9223372036854775807) }}", "{{ 'x' * 1000000000000 }}",
        "{{ [1] * 1000000000000 }}", "{{ 'ab' * 9223372036854775807 }}", "{{ 2 ** 64 }}", "{{ 10.0 ** 400 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(n) %}{{ m(n + 1) }}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}",
        "{% macro m() %}{% call m() %}{% endcall %}{% endmacro %}{{ m() }}",
        kDoubling + "'ab') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        kDoubling + "'ab') %}{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        kDoubling + "[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        kDoubling + "'ab') %}{% for i in range(99) %}{% set ns.x = ns.x.replace('', ns.x) %}{% endfor %}",
        kDoubling + "'ab') %}{% for i in range(99) %}{% set ns.x = ns.x | join(ns.x) %}{% endfor %}",
        kDoubling + "[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
        kDoubling +
            "[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x | tojson }}",
        kDoubling +
            "[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x == ns.x[0] }}",
        kDoubling + "[1]) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x in "
                    "[ns.x, 1] and [1, ns.x] == [ns.x, 1] and ns.x < ns.x }}",
        kDoubling +
            "(1,)) %}{% for i in range(60) %}{% set ns.x = (ns.x, ns.x) %}{% endfor %}{{ {ns.x: 1} }}",
        kDoubling + "[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        kDoubling + "[]) %}{% for i in range(9999) %}{% set ns.x = {'a': ns.x} %}{% endfor %}",
        kDoubling + "[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x].index %}{% endfor %}",
        kDoubling + "[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] | select %}{% endfor %}",
        kDoubling + "[]) %}{% for i in range(9999) %}{% for j in [ns.x] %}{% set ns.x = loop %}{% endfor "
                    "%}{% endfor %}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
        "{% set x = range(100000)|list %}{% for i in x %}{{ x == x }}{% endfor %}",
        "{% set x = range(100000)|list %}{% for i in x %}{{ -1 in x }}{% endfor %}",
        "{% set x = range(100000)|list %}{% for i in x %}{{ x|sort|length }}{% endfor %}",
        "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ 'b' in x }}{% endfor %}",
        "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ x|length }}{% endfor %}",
        "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ x.upper() is none }}{% endfor %}",
        "{% set x = 'a' * 1000000 %}{% for i in range(100000) %}{{ x[5] }}{% endfor %}",
        "{% for i in range(100000) %}{{ 'x' * 10000 }}{% endfor %}", "{{ '%999999999d' % 1 }}",
        "{{ '{:>999999999}'.format(1) }}", "{{ 'a'.center(999999999999) }}",
        "{{ 'a' | indent(999999999999) }}", "{{ [1] | batch(999999999999, 0) | list }}",
        "{% set x = [1] | tojson(indent=9999999) %}"));

INSTANTIATE_TEST_SUITE_P(
    Nesting, ExhaustionTest,
    testing::Values("{{ " + repeated("(", 100000) + "1" + repeated(")", 100000) + " }}",
                    "{{ " + repeated("[", 100000) + repeated("]", 100000) + " }}",
                    "{{ " + repeated("{1:", 100000) + " }}", "{{ " + repeated("-", 100000) + "1 }}",
                    "{{ " + repeated("not ", 100000) + "1 }}", "{{ 1" + repeated(" + 1", 100000) + " }}",
                    "{{ x" + repeated(".a", 100000) + " }}", "{{ x" + repeated("|list", 100000) + " }}",
                    "{{ x" + repeated("(1)", 100000) + " }}",
                    "{{ 1" + repeated(" if 1 else 1", 100000) + " }}",
                    "{{ 1" + repeated(" and 1", 100000) + " }}", "{{ 1" + repeated(" is defined", 3) + " }}",
                    repeated("{% if 1 %}", 100000), repeated("{% for x in y %}", 100000),
                    repeated("{% set x %}", 100000), repeated("{% filter upper %}", 100000),
                    "{% for " + repeated("(", 100000) + "a in b %}", std::string((1 << 20) + 1, 'x')));

TEST(LimitsTest, LongFlatConstructsAreNoProblem) {
  EXPECT_TRUE(render("{% if 0 %}" + repeated("{% elif 0 %}", 5000) + "{% endif %}"));
  EXPECT_TRUE(render("{{ 'a'" + repeated(" ~ 'a'", 5000) + " }}"));
  EXPECT_TRUE(render("{{ [" + repeated("1,", 5000) + "] }}"));
  EXPECT_TRUE(render("{{ 1" + repeated(" < 2", 1) + repeated(" <= 2", 5000) + " }}"));
  EXPECT_TRUE(render(repeated("{{ 1 }}", 5000)));
}

TEST(LimitsTest, ALongConversationFitsTheBudget) {
  const auto rendered = render(
      "{% set ns = namespace(out='', n=0) %}{% for i in range(4000) %}{% if i % 2 == 0 and i is number %}"
      "{% set ns.out = 'role' ~ i ~ ('text ' * 200) %}{% set ns.n = ns.n + ns.out|length %}"
      "{{ ns.out | trim }}{% endif %}{% endfor %}");
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_GT(rendered->size(), 1'900'000u);
}

TEST(LimitsTest, StepsAreCountedAgainstTheLimitGiven) {
  const auto parsed = Template::parse("{% for i in range(100) %}{{ i }}{% endfor %}");
  ASSERT_TRUE(parsed);
  Limits limits;
  limits.max_steps = 200;
  const auto rendered = parsed->render({}, limits, {});
  ASSERT_FALSE(rendered);
  EXPECT_EQ(rendered.error().code, ErrorCode::kResourceExhausted);
  limits.max_steps = 2000;
  EXPECT_TRUE(parsed->render({}, limits, {}));
}

}  // namespace
}  // namespace crible::jinja
