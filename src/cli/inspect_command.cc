#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/units.h"
#include "cli/command.h"
#include "cli/inspection.h"
#include "config/resolve.h"

namespace crible {

int run_inspect(int argc, char** argv) {
  CLI::App app("Print what a model is and what memory it needs, without loading its weights.", "crible inspect");
  std::string model;
  bool as_json = false;
  std::vector<int64_t> budgets;
  app.add_option("model", model, "a GGUF file, or a folder with config.json and safetensors")->required();
  app.add_flag("--json", as_json, "one JSON object");
  app.add_option("--budget", budgets, "bytes the engine may use in all, several times for several lines; 4, 8 and "
                 "16 GiB and this machine's memory if not given")->check(CLI::PositiveNumber);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (const Status log = init_log("warning"); !log) {
    fmt::print(stderr, "crible inspect: {}\n", log.error().message);
    return 1;
  }
  if (budgets.empty()) budgets = {4 * kGiB, 8 * kGiB, 16 * kGiB, this_machine().memory_bytes};
  const auto inspection = inspect_model(model, budgets);
  if (!inspection) {
    fmt::print(stderr, "crible inspect: {}\n", inspection.error().message);
    return inspection.error().code == ErrorCode::kIo ? 1 : 2;
  }
  fmt::print("{}", as_json ? to_json(*inspection).dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"
                           : to_text(*inspection));
  return 0;
}

}  // namespace crible
