// Against Python's jinja2: tests/golden/chat_templates.json, made by tools/make_template_golden.py.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/atomic_file.h"
#include "text/jinja/json_text.h"
#include "text/jinja/template.h"
#include "text/local_time.h"

namespace crible::jinja {
namespace {

class GoldenTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const auto text = read_file(CRIBLE_SOURCE_DIR "/tests/golden/chat_templates.json");
    ASSERT_TRUE(text) << text.error().message;
    golden_ = nlohmann::ordered_json::parse(*text);
    for (const auto& [name, value] : golden_["variables"].items()) {
      variables_.emplace_back(name, from_json(value));
    }
  }

  static Result<std::string> render(const std::string& source) {
    const auto parsed = Template::parse(source);
    if (!parsed) return tl::unexpected<Error>(parsed.error());
    return parsed->render(variables_, Limits{}, local_moment(golden_["unix_time"].get<int64_t>()));
  }

  // Renders `source` and holds it to what jinja2 made of it; null: it failed.
  static void check(const std::string& source, const nlohmann::ordered_json& expected) {
    const auto rendered = render(source);
    if (expected.is_null()) {
      EXPECT_FALSE(rendered) << source << "\nshould fail, gives: " << rendered.value_or("");
    } else if (!rendered) {
      ADD_FAILURE() << source << "\nshould give: " << expected.get<std::string>()
                    << "\nfails: " << rendered.error().message;
    } else {
      EXPECT_EQ(*rendered, expected.get<std::string>()) << source;
    }
  }

  static inline nlohmann::ordered_json golden_;
  static inline Template::Variables variables_;
};

TEST_F(GoldenTest, RandomExpressionsEvaluateAsInJinja2) {
  ASSERT_GE(golden_["expressions"].size(), 3000u);
  for (const auto& pair : golden_["expressions"]) {
    check("{{ " + pair[0].get<std::string>() + " }}", pair[1]);
  }
}

TEST_F(GoldenTest, RandomTemplatesRenderAsInJinja2) {
  ASSERT_GE(golden_["templates"].size(), 1000u);
  for (const auto& pair : golden_["templates"]) check(pair[0].get<std::string>(), pair[1]);
}

}  // namespace
}  // namespace crible::jinja
