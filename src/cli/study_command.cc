#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/log.h"
#include "base/process.h"
#include "cli/command.h"
#include "report/report.h"
#include "study/record/plan.h"
#include "study/record/store.h"
#include "study/record/study_result.h"
#include "study/run/interrupt.h"
#include "study/run/knob_flags.h"
#include "study/run/promote.h"
#include "study/run/scenario/scenario.h"
#include "study/run/study_run.h"

namespace crible {
namespace {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kBadArguments = 2;

struct Arguments {
  std::string spec;
  std::string folder;
  std::string out;
  std::string language;
};

int exit_code(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kNotFound:
    case ErrorCode::kUnsupported: return kBadArguments;
    default: return kFailed;
  }
}

int complain(const Error& error) {
  fmt::print(stderr, "crible study: {}\n", error.message);
  return exit_code(error);
}

size_t output_columns() {
  constexpr size_t kFallback = 100;
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kFallback;
}

// Analyses the store, writes artifacts and report, prints the summary.
Status make_report(const study::StudyFolder& folder, const std::string& language) {
  CRIBLE_TRY(const study::Store store, study::Store::open_read_only(folder.store()));
  CRIBLE_TRY(const study::StoredStudy stored, store.load_study());
  CRIBLE_TRY(study::StudyResult result, study::analyse(stored));
  CRIBLE_RETURN_IF_ERROR(study::promote(folder, result));
  CRIBLE_TRY(const report::ReportFiles files, report::write_report(result, {folder.root, language, &stored}));
  const std::string shown = language.empty() ? result.spec.language : language;
  fmt::print("{}\n", report::console_summary(result, shown, output_columns(), ::isatty(STDOUT_FILENO) == 1));
  fmt::print("{}\n{}\n{}\n", files.markdown.string(), files.html.string(), files.json.string());
  return {};
}

int conclude(const Result<study::RunSummary>& summary, const study::StudyFolder& folder,
             const std::string& language) {
  if (!summary) {
    const int code = complain(summary.error());
    fmt::print(stderr, "what is stored stays; once that is put right: crible study resume {}\n",
               folder.root.string());
    return code;
  }
  if (const Status reported = make_report(folder, language); !reported) return complain(reported.error());
  switch (summary->outcome) {
    case study::RunOutcome::kFinished: return kDone;
    case study::RunOutcome::kInterrupted:
      fmt::print(stderr, "interrupted after {} of {} trials; go on with: crible study resume {}\n",
                 summary->trials_done, summary->trials_planned, folder.root.string());
      return kFailed;
    case study::RunOutcome::kStopped:
    case study::RunOutcome::kNothingMeasured:
      fmt::print(stderr, "crible study: {}\n", summary->message);
      return kFailed;
  }
  return kFailed;
}

Result<study::RunOptions> run_options() {
  CRIBLE_TRY(const std::filesystem::path program, current_executable());
  return study::RunOptions{.program = program, .program_version = CRIBLE_VERSION};
}

// Before the hours of a run, not after them.
Status check_language(const std::string& language) {
  if (language.empty()) return {};
  if (const auto parsed = report::parse_language(language); !parsed) return tl::unexpected(parsed.error());
  return {};
}

int run(const Arguments& arguments) {
  if (const Status language = check_language(arguments.language); !language)
    return complain(language.error());
  const auto spec = study::load_spec(arguments.spec);
  if (!spec) return complain(spec.error());
  const auto options = run_options();
  if (!options) return complain(options.error());
  const auto folder = study::create_study_folder(
      arguments.out.empty() ? study::default_study_root(spec->name) : std::filesystem::path(arguments.out));
  if (!folder) return complain(folder.error());
  const study::InterruptScope interrupt;
  study::Progress progress(stdout);
  progress.say(fmt::format("study '{}' in {}", spec->name, folder->root.string()));
  const auto summary = study::run_study(*spec, arguments.spec, *folder, *options, progress, interrupt.flag());
  progress.close();
  return conclude(summary, *folder, arguments.language);
}

int resume(const Arguments& arguments) {
  if (const Status language = check_language(arguments.language); !language)
    return complain(language.error());
  const auto options = run_options();
  if (!options) return complain(options.error());
  const auto folder = study::open_study_folder(arguments.folder);
  if (!folder) return complain(folder.error());
  const study::InterruptScope interrupt;
  study::Progress progress(stdout);
  const auto summary = study::resume_study(*folder, *options, progress, interrupt.flag());
  progress.close();
  return conclude(summary, *folder, arguments.language);
}

int report_again(const Arguments& arguments) {
  if (const Status language = check_language(arguments.language); !language)
    return complain(language.error());
  const auto folder = study::open_study_folder(arguments.folder);
  if (!folder) return complain(folder.error());
  if (const Status reported = make_report(*folder, arguments.language); !reported)
    return complain(reported.error());
  return kDone;
}

int check(const Arguments& arguments) {
  const auto spec = study::load_spec(arguments.spec);
  if (!spec) return complain(spec.error());
  const study::Plan plan = study::make_plan(*spec);
  fmt::print("study '{}': {} configurations × {} scenarios × {} blocks = {} trials\n", spec->name,
             spec->configurations.size(), spec->scenarios.size(), spec->blocks, plan.trial_count);
  for (const auto& configuration : spec->configurations) {
    fmt::print("  {}: {}\n", configuration.name,
               spec->target.engine == study::TargetEngine::kUrl
                   ? configuration.url
                   : study::shell_line(study::knob_flags(configuration.knobs)));
  }
  for (const auto& scenario : spec->scenarios) {
    const study::ScenarioWork work = study::scenario_named(scenario.name).work(scenario);
    fmt::print("  {}: {} requests per trial, at most {:.0f} prompt tokens, {:.0f} decode steps\n",
               scenario.name, work.requests, work.prompt_tokens, work.decode_steps);
  }
  for (const auto& objective : spec->objectives) {
    fmt::print("  {}: {} {}\n", objective.name,
               objective.sense == study::Sense::kMinimise ? "minimise" : "maximise",
               objective.reference.text());
  }
  for (int block = -1; const auto& visit : plan.visits) {
    if (visit.block != block) fmt::print("{}  block {}:", visit.block > 0 ? "\n" : "", visit.block + 1);
    block = visit.block;
    fmt::print(" {}", visit.configuration);
  }
  fmt::print("\n");
  return kDone;
}

}  // namespace

int run_study(int argc, char** argv) {
  CLI::App app("Compare configurations by measurement, and decide.", "crible study");
  app.require_subcommand(1);
  Arguments arguments;
  const auto add_language = [&](CLI::App* command) {
    command->add_option("--lang", arguments.language,
                        "language of the report, en or fr; the spec's own if not given");
  };
  CLI::App* run_command = app.add_subcommand("run", "run a study from its spec and write the report");
  run_command->add_option("spec", arguments.spec, "the spec (YAML)")->required();
  run_command->add_option("--out", arguments.out, "folder for everything; runs/NAME-TIME if not given");
  add_language(run_command);
  CLI::App* resume_command = app.add_subcommand("resume", "make the trials that a study still lacks");
  resume_command->add_option("folder", arguments.folder, "the study's folder")->required();
  add_language(resume_command);
  CLI::App* report_command =
      app.add_subcommand("report", "write the report again from the stored measurements");
  report_command->add_option("folder", arguments.folder, "the study's folder")->required();
  add_language(report_command);
  CLI::App* check_command = app.add_subcommand("check", "check a spec and print the plan; starts nothing");
  check_command->add_option("spec", arguments.spec, "the spec (YAML)")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kBadArguments;
  }
  if (const Status log = init_log("warning"); !log) return complain(log.error());
  if (*run_command) return run(arguments);
  if (*resume_command) return resume(arguments);
  if (*report_command) return report_again(arguments);
  return check(arguments);
}

}  // namespace crible
