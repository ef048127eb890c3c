#include <fmt/format.h>

#include <csignal>
#include <cstdio>
#include <string_view>

#include "cli/command.h"
#include "config/field_table.h"

namespace {

struct Command {
  std::string_view name;
  int (*run)(int argc, char** argv);
  std::string_view help;
};

constexpr Command kCommands[] = {
    {"serve", crible::run_serve, "serve a model over an OpenAI-compatible API"},
    {"inspect", crible::run_inspect, "print what a model is and what memory it needs"},
    {"study", crible::run_study, "compare configurations and write the report: run, resume, report"},
};

void print_help(std::FILE* out) {
  fmt::print(out, "crible: a language-model server that proves which configuration belongs in production\n\n"
                  "usage: crible COMMAND ...\n\n");
  for (const auto& command : kCommands) fmt::print(out, "  {:<8} {}\n", command.name, command.help);
  fmt::print(out, "\n'crible COMMAND --help' lists a command's options.\n");
}

}  // namespace

int main(int argc, char** argv) {
  // A client that goes away must end its own request, not the process.
  std::signal(SIGPIPE, SIG_IGN);
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (word == "--help" || word == "-h") {
    print_help(stdout);
    return 0;
  }
  if (word == "--version") {
    fmt::print("crible {}\n", CRIBLE_VERSION);
    return 0;
  }
  std::vector<std::string_view> names;
  for (const auto& command : kCommands) {
    if (command.name == word) return command.run(argc - 1, argv + 1);
    names.push_back(command.name);
  }
  if (!word.empty()) fmt::print(stderr, "crible: unknown command '{}'{}\n\n", word, crible::suggest(word, names));
  print_help(stderr);
  return 2;
}
