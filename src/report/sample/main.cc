// report_sample KIND LANGUAGE FOLDER: writes the report of a synthetic study into the folder, and
// its console summary to standard output. For the tests of the written files and for looking at
// the page; KIND is complete, troubled, single, empty, gpu or hostile.
#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <string>

#include "report/report.h"
#include "report/sample/synthetic_study.h"

int main(int argc, char** argv) {
  using crible::report::SyntheticKind;
  const std::map<std::string, SyntheticKind> kinds = {{"complete", SyntheticKind::kComplete},
                                                      {"troubled", SyntheticKind::kTroubled},
                                                      {"single", SyntheticKind::kSingle},
                                                      {"empty", SyntheticKind::kEmpty},
                                                      {"gpu", SyntheticKind::kGpu},
                                                      {"hostile", SyntheticKind::kHostile}};
  const auto kind = argc == 4 ? kinds.find(argv[1]) : kinds.end();
  if (kind == kinds.end()) {
    fmt::print(stderr, "usage: report_sample complete|troubled|single|empty|gpu|hostile en|fr FOLDER\n");
    return 2;
  }
  const crible::study::StoredStudy stored = crible::report::make_synthetic_study(kind->second);
  auto study = crible::study::analyse(stored);
  if (!study) {
    fmt::print(stderr, "{}\n", study.error().message);
    return 1;
  }
  if (kind->second == SyntheticKind::kHostile) crible::report::rename_with_markup(*study);
  const auto files = crible::report::write_report(*study, {argv[3], argv[2], &stored});
  if (!files) {
    fmt::print(stderr, "{}\n", files.error().message);
    return 1;
  }
  fmt::print("{}", crible::report::console_summary(*study, argv[2], 100, false));
  return 0;
}
