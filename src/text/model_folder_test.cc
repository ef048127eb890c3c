#include "text/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "text/chat_template.h"

namespace crible {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ModelFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("crible_folder_" + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_ / "additional_chat_templates");
    write("tokenizer.json", R"({
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"},
      "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
        "special_tokens": {"<s>": {"ids": [2]}}},
      "added_tokens": [{"id": 2, "content": "<s>", "special": true}, {"id": 3, "content": "</s>", "special": true},
                       {"id": 4, "content": "<|eot_id|>", "special": true}],
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}})");
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const char* name, std::string_view content) { std::ofstream(folder_ / name) << content; }
  TextModel load() {
    auto model = load_text_model(folder_);
    EXPECT_TRUE(model) << model.error().message;
    return model ? *std::move(model) : TextModel();
  }
  std::string error() {
    const auto model = load_text_model(folder_);
    EXPECT_FALSE(model);
    return model ? "" : model.error().message;
  }
  static std::string render(const TextModel& model, bool tools) {
    ChatContext context;
    if (tools) context.tools = {{{"name", "f"}}};
    context.bos_token = model.bos_text;
    return model.chat_template->render(context).value();
  }

  std::filesystem::path folder_;
};

TEST_F(ModelFolder, TokenizerAloneIsEnough) {
  const TextModel model = load();
  ASSERT_NE(model.tokenizer, nullptr);
  EXPECT_EQ(model.chat_template, nullptr);
  EXPECT_EQ(model.tokenizer->bos(), std::nullopt);
  EXPECT_THAT(model.tokenizer->encode("ab", {.add_special = true}), ElementsAre(2, 0, 1));
  // Known by its text to end a turn.
  EXPECT_EQ(model.tokenizer->eot(), 4);
}

TEST_F(ModelFolder, NamesEndsAndSize) {
  write("tokenizer_config.json",
        R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null})");
  write("special_tokens_map.json", R"({"eos_token": "<s>", "pad_token": "b"})");
  write("generation_config.json", R"({"eos_token_id": [1, 3]})");
  write("config.json", R"({"eos_token_id": 0, "vocab_size": 8})");
  const TextModel model = load();
  EXPECT_EQ(model.bos_text, "<s>");
  EXPECT_EQ(model.eos_text, "</s>");
  EXPECT_EQ(model.tokenizer->pad(), 1);
  EXPECT_THAT(model.end_of_generation, ElementsAre(1, 3, 4));
  EXPECT_EQ(model.tokenizer->vocabulary_size(), 8);
  EXPECT_EQ(model.tokenizer->token_bytes(7), "");
  write("generation_config.json", "{}");
  EXPECT_THAT(load().end_of_generation, ElementsAre(0, 3, 4));
  write("config.json", R"({"text_config": {"vocab_size": 9}})");
  EXPECT_EQ(load().tokenizer->vocabulary_size(), 9);
}

TEST_F(ModelFolder, StatedFlagsGoBeforeThePostProcessor) {
  write("tokenizer_config.json", R"({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": false})");
  EXPECT_THAT(load().tokenizer->encode("a", {.add_special = true}), ElementsAre(0));
  EXPECT_FALSE(load().tokenizer->adds_bos());
  write("tokenizer_config.json",
        R"({"bos_token": "<s>", "eos_token": "</s>", "add_eos_token": true, "add_bos_token": true})");
  EXPECT_THAT(load().tokenizer->encode("a", {.add_special = true}), ElementsAre(2, 0, 3));
  EXPECT_TRUE(load().tokenizer->adds_bos());
  EXPECT_TRUE(load().tokenizer->adds_eos());
}

TEST_F(ModelFolder, TemplatesFromEachPlace) {
  write("tokenizer_config.json", R"({"chat_template": "config", "bos_token": "<s>"})");
  EXPECT_EQ(render(load(), true), "config");
  write(
      "tokenizer_config.json",
      R"({"chat_template": [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "{{ bos_token }}"},
            {"name": "rag", "template": "{{"}], "bos_token": "<s>"})");
  EXPECT_EQ(render(load(), false), "<s>");
  EXPECT_EQ(render(load(), true), "tools");
  write("chat_template.jinja", "file");
  write("additional_chat_templates/tool_use.jinja", "tool file");
  EXPECT_EQ(render(load(), false), "file");
  EXPECT_EQ(render(load(), true), "tool file");
  write("chat_template.jinja", "{% if %}");
  EXPECT_THAT(error(), HasSubstr("chat template"));
}

TEST_F(ModelFolder, WhatIsWrongIsNamed) {
  write("config.json", R"({"vocab_size": "many"})");
  EXPECT_THAT(error(), HasSubstr("vocab_size"));
  write("config.json", R"({"eos_token_id": 5})");
  EXPECT_THAT(error(), HasSubstr("eos_token_id 5"));
  write("config.json", "[]");
  EXPECT_THAT(error(), HasSubstr("config.json: not a JSON object"));
  write("config.json", "{}");
  write("tokenizer_config.json", R"({"bos_token": "<none>"})");
  EXPECT_THAT(error(), HasSubstr("bos_token \"<none>\""));
  write("tokenizer_config.json", R"({"bos_token": 1})");
  EXPECT_THAT(error(), HasSubstr("bos_token"));
  std::filesystem::remove(folder_ / "tokenizer.json");
  EXPECT_THAT(error(), HasSubstr("no tokenizer.json"));
}

}  // namespace
}  // namespace crible
