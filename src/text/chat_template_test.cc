#include "text/chat_template.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "format/gguf.h"
#include "text/local_time.h"

namespace crible {
namespace {

using nlohmann::ordered_json;

const std::chrono::system_clock::time_point kTime = local_moment(1769862896);

ChatTemplate parse_file(const std::filesystem::path& path) {
  auto source = read_file(path);
  EXPECT_TRUE(source) << path;
  auto parsed = ChatTemplate::parse(std::move(*source));
  EXPECT_TRUE(parsed) << path << ": " << parsed.error().message;
  return std::move(*parsed);
}

ordered_json user(const std::string& content) {
  return {{"role", "user"}, {"content", content}};
}

ChatContext one_message() {
  ChatContext context;
  context.messages = ordered_json::array({user("Hi")});
  return context;
}

TEST(ChatTemplateTest, RealisticTemplatesRenderAsInTransformers) {
  const auto text = read_file(CRIBLE_SOURCE_DIR "/tests/golden/chat_templates.json");
  ASSERT_TRUE(text);
  const auto golden = ordered_json::parse(*text);
  int compared = 0;
  for (const auto& conversation : golden["chat"]) {
    ChatContext context;
    const auto& given = conversation["context"];
    context.messages = given["messages"];
    if (given.contains("tools")) context.tools = given["tools"];
    context.add_generation_prompt = given.value("add_generation_prompt", true);
    if (given.contains("extra")) context.extra = given["extra"];
    context.bos_token = "<s>";
    context.eos_token = "</s>";
    context.time = local_moment(golden["unix_time"].get<int64_t>());
    for (const auto& [file, expected] : conversation["expected"].items()) {
      SCOPED_TRACE(file + " with " + conversation["name"].get<std::string>());
      const auto rendered =
          parse_file(std::filesystem::path(CRIBLE_SOURCE_DIR "/tests/cases/chat_templates") / file)
              .render(context);
      if (expected.is_null()) {
        EXPECT_FALSE(rendered) << rendered.value_or("");
      } else {
        ASSERT_TRUE(rendered) << rendered.error().message;
        EXPECT_EQ(*rendered, expected.get<std::string>());
      }
      ++compared;
    }
  }
  EXPECT_GE(compared, 200);
}

TEST(ChatTemplateTest, DefaultModelsOwnTemplateWritesChatMl) {
  const auto file = GgufFile::open(CRIBLE_SOURCE_DIR "/models/default.gguf");
  ASSERT_TRUE(file) << file.error().message;
  const auto source = file->get_string("tokenizer.chat_template");
  ASSERT_TRUE(source) << source.error().message;
  const auto parsed = ChatTemplate::parse(std::string(*source));
  ASSERT_TRUE(parsed) << parsed.error().message;
  ChatContext context = one_message();
  context.messages = ordered_json::array({{{"role", "system"}, {"content", "Be brief."}}, user("Hi")});
  const auto rendered = parsed->render(context);
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_EQ(*rendered,
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
            "<|im_start|>assistant\n");
}

TEST(ChatTemplateTest, RaiseExceptionReachesTheCallerWithItsLine) {
  const auto parsed = ChatTemplate::parse("one\n{{ raise_exception('roles must alternate') }}");
  ASSERT_TRUE(parsed);
  const auto rendered = parsed->render(one_message());
  ASSERT_FALSE(rendered);
  EXPECT_EQ(rendered.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(rendered.error().message, "chat template: template line 2: roles must alternate");
}

TEST(ChatTemplateTest, AbsentToolsAreDefinedAsNone) {
  const auto parsed =
      ChatTemplate::parse("{{ tools is defined }} {{ tools is none }} {{ documents is none }}");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->render(one_message()).value(), "True True True");
}

TEST(ChatTemplateTest, ExtraVariablesWinOverTheUsualOnes) {
  const auto parsed = ChatTemplate::parse("{{ bos_token }}{{ enable_thinking }}");
  ASSERT_TRUE(parsed);
  ChatContext context = one_message();
  context.bos_token = "<s>";
  context.extra = {{"bos_token", "<b>"}, {"enable_thinking", false}};
  EXPECT_EQ(parsed->render(context).value(), "<b>False");
}

TEST(ChatTemplateTest, MentionsSaysWhichVariablesMatter) {
  const auto parsed = ChatTemplate::parse("{% if enable_thinking %}{{ messages }}{% endif %}");
  ASSERT_TRUE(parsed);
  EXPECT_TRUE(parsed->mentions("enable_thinking"));
  EXPECT_TRUE(parsed->mentions("messages"));
  EXPECT_FALSE(parsed->mentions("tools"));
}

TEST(ChatTemplateTest, TimeIsTheGivenOneAsLocalClocksShowIt) {
  const auto parsed = ChatTemplate::parse("{{ strftime_now('%Y-%m-%d %H:%M:%S %-d%%[%Z%z%-z] %b') }}");
  ASSERT_TRUE(parsed);
  ChatContext context = one_message();
  context.time = kTime;
  EXPECT_EQ(parsed->render(context).value(), "2026-01-31 12:34:56 31%[] Jan");
  const char* zone = std::getenv("TZ");
  const std::optional<std::string> before = zone ? std::optional<std::string>(zone) : std::nullopt;
  context.time = std::chrono::system_clock::from_time_t(1769889600);  // 20:00 UTC
  setenv("TZ", "JST-9", 1);
  tzset();
  EXPECT_EQ(parsed->render(context).value(), "2026-02-01 05:00:00 1%[] Feb");
  before ? setenv("TZ", before->c_str(), 1) : unsetenv("TZ");
  tzset();
}

TEST(ChatTemplateTest, AModelMayHaveATemplateOfItsOwnForTools) {
  const auto parsed = ChatTemplate::parse("plain", "with {{ tools | length }}");
  ASSERT_TRUE(parsed);
  ChatContext context = one_message();
  EXPECT_EQ(parsed->render(context).value(), "plain");
  context.tools = ordered_json::array();
  EXPECT_EQ(parsed->render(context).value(), "plain");
  context.tools = {{{"name", "f"}}};
  EXPECT_EQ(parsed->render(context).value(), "with 1");
  EXPECT_TRUE(parsed->mentions("tools"));
  const auto broken = ChatTemplate::parse("plain", "{% if %}");
  ASSERT_FALSE(broken);
  EXPECT_NE(broken.error().message.find("for tools"), std::string::npos) << broken.error().message;
}

TEST(ChatTemplateTest, TooDeepMessagesAreAnError) {
  ordered_json deep = 1;
  for (int i = 0; i < 500; ++i) deep = ordered_json::array({std::move(deep)});
  const auto parsed = ChatTemplate::parse("x");
  ASSERT_TRUE(parsed);
  ChatContext context = one_message();
  context.messages.push_back(std::move(deep));
  const auto rendered = parsed->render(context);
  ASSERT_FALSE(rendered);
  EXPECT_EQ(rendered.error().code, ErrorCode::kInvalidArgument);
}

TEST(ChatTemplateTest, ConversationsOfAMillionTokensRender) {
  const ChatTemplate parsed =
      parse_file(CRIBLE_SOURCE_DIR "/tests/cases/chat_templates/qwen3_reasoning.jinja");
  ChatContext context;
  for (int i = 0; i < 4000; ++i) {
    context.messages.push_back(user(std::string(1000, 'q')));
    context.messages.push_back(
        {{"role", "assistant"}, {"content", "<think>" + std::string(500, 't') + "</think>yes"}});
  }
  const auto rendered = parsed.render(context);
  ASSERT_TRUE(rendered) << rendered.error().message;
  EXPECT_GT(rendered->size(), 4'000'000u);
}

TEST(ChatTemplateTest, ThreadsRenderOneTemplateAtOnce) {
  const ChatTemplate parsed =
      parse_file(CRIBLE_SOURCE_DIR "/tests/cases/chat_templates/qwen3_reasoning.jinja");
  const auto expected = parsed.render(one_message());
  ASSERT_TRUE(expected);
  std::vector<std::thread> threads;
  std::vector<int> equal(4, 0);
  for (size_t t = 0; t < equal.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 50; ++i) equal[t] += parsed.render(one_message()).value() == *expected ? 1 : 0;
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(equal, std::vector<int>(4, 50));
}

}  // namespace
}  // namespace crible
