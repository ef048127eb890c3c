#include "server/serve_options.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/atomic_file.h"

namespace crible {
namespace {

Result<ServeOptions> parse(std::vector<std::string_view> arguments, std::string_view key = {}) {
  return parse_serve_arguments(arguments, key);
}

std::string error_of(std::vector<std::string_view> arguments) {
  const auto options = parse(std::move(arguments));
  return options ? "accepted" : options.error().message;
}

TEST(ServeOptions, EveryFieldOfBothTablesIsAFlag) {
  const auto options = parse({"--max-num-seqs", "48", "m.gguf", "--gpu-memory-utilization=0.85", "--no-enable-prefix-caching",
                              "--enable-chunked-prefill=false", "--port", "0", "--kv-cache-dtype", "f32"});
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->model, "m.gguf");
  EXPECT_EQ(options->engine.max_num_seqs, 48);
  EXPECT_EQ(options->engine.gpu_memory_utilization, 0.85);
  EXPECT_FALSE(options->engine.enable_prefix_caching);
  EXPECT_FALSE(options->engine.enable_chunked_prefill);
  EXPECT_EQ(options->engine.kv_cache_dtype, "f32");
  EXPECT_EQ(options->server.port, 0);
  EXPECT_TRUE(parse({"m", "--no-enable-prefix-caching", "--enable-prefix-caching"})->engine.enable_prefix_caching);
  const std::string help = serve_help();
  for (const auto& f : engine_fields().fields()) EXPECT_NE(help.find(f.name), std::string::npos);
  for (const auto& f : server_fields().fields()) EXPECT_NE(help.find(f.name), std::string::npos);
  EXPECT_TRUE(parse({"--help"})->help);
}

TEST(ServeOptions, WhatIsWrongIsNamed) {
  EXPECT_NE(error_of({}).find("usage"), std::string::npos);
  EXPECT_NE(error_of({"m", "--max-num-seq", "4"}).find("did you mean 'max-num-seqs'"), std::string::npos);
  EXPECT_NE(error_of({"m", "--max-num-seqs"}).find("needs a value"), std::string::npos);
  EXPECT_NE(error_of({"m", "--max-num-seqs", "many"}).find("integer"), std::string::npos);
  EXPECT_NE(error_of({"m", "--no-max-num-seqs"}).find("no-max-num-seqs"), std::string::npos);
  EXPECT_NE(error_of({"m", "--no-enable-prefix-caching=true"}).find("takes no value"), std::string::npos);
  EXPECT_NE(error_of({"m", "--enable-prefix-caching=maybe"}).find("true or false"), std::string::npos);
  EXPECT_NE(error_of({"m", "n"}).find("one argument too many"), std::string::npos);
  EXPECT_NE(error_of({"m", "-p", "80"}).find("--"), std::string::npos);
  EXPECT_NE(error_of({"m", "--port", "99999"}).find("port"), std::string::npos);
  EXPECT_NE(error_of({"m", "--config", "/nowhere/x.json"}).find("/nowhere/x.json"), std::string::npos);
}

TEST(ServeOptions, FlagsWinOverTheFileAndTheFileOverDefaults) {
  const std::string path = fmt::format("{}/crible_serve_options_{}.json", testing::TempDir(), getpid());
  ASSERT_TRUE(write_file_atomic(path, R"({"max-num-seqs": 4, "port": 9000, "enable-prefix-caching": false})"));
  const auto options = parse({"m", "--config", path, "--port", "9001"});
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->engine.max_num_seqs, 4);
  EXPECT_EQ(options->server.port, 9001);
  EXPECT_FALSE(options->engine.enable_prefix_caching);
  ASSERT_TRUE(write_file_atomic(path, R"({"max-num-sekvs": 4})"));
  EXPECT_NE(error_of({"m", "--config", path}).find("did you mean 'max-num-seqs'"), std::string::npos);
  ASSERT_TRUE(write_file_atomic(path, "[1]"));
  EXPECT_NE(error_of({"m", "--config", path}).find("JSON object"), std::string::npos);
  unlink(path.c_str());
}

TEST(ServeOptions, TheKeyComesFromTheEnvironmentUnlessAFlagSaysOtherwise) {
  EXPECT_EQ(parse({"m"}, "env")->server.api_key, "env");
  EXPECT_EQ(parse({"m", "--api-key", "flag"}, "env")->server.api_key, "flag");
}

}  // namespace
}  // namespace crible
