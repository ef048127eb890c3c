#include "report/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "base/atomic_file.h"
#include "report/html.h"
#include "report/json.h"
#include "report/markdown.h"
#include "report/sections.h"
#include "report/sample/small_study.h"
#include "report/sample/synthetic_study.h"

namespace crible::report {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr SyntheticKind kKinds[] = {SyntheticKind::kComplete, SyntheticKind::kTroubled,
                                    SyntheticKind::kSingle, SyntheticKind::kEmpty,   SyntheticKind::kGpu,
                                    SyntheticKind::kHostile};

study::StudyResult analysed(SyntheticKind kind) {
  auto study = study::analyse(make_synthetic_study(kind));
  EXPECT_TRUE(study.has_value()) << (study ? "" : study.error().message);
  if (kind == SyntheticKind::kHostile) rename_with_markup(*study);
  return *study;
}

std::string markdown_of(const study::StudyResult& study, Language language) {
  const Scribe scribe(language);
  return render_markdown(build_document({study, {}, scribe}));
}

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "crible_report_XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// The golden reports are small enough to be checked by hand against sample/small_study.cc. After a change
// that is meant: CRIBLE_UPDATE_GOLDEN=1, then read the difference.
void expect_golden(const std::string& name, const std::string& text) {
  const std::filesystem::path path = std::filesystem::path(CRIBLE_SOURCE_DIR) / "tests/report/golden" / name;
  if (std::getenv("CRIBLE_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(write_file_atomic(path, text).has_value());
  }
  const auto golden = read_file(path, 1 << 20);
  ASSERT_TRUE(golden.has_value()) << golden.error().message;
  EXPECT_EQ(*golden, text) << name;
}

TEST(Report, SmallStudyReadsAsWritten) {
  const study::StudyResult study = make_small_study();
  expect_golden("small_en.md", markdown_of(study, Language::kEnglish));
  expect_golden("small_fr.md", markdown_of(study, Language::kFrench));
  expect_golden("small.json", render_json(study));
}

TEST(Report, SameInputSameBytes) {
  for (const SyntheticKind kind : kKinds) {
    const study::StoredStudy stored = make_synthetic_study(kind);
    const study::StudyResult study = analysed(kind);
    for (const char* language : {"en", "fr"}) {
      TemporaryFolder first, second;
      const auto files = write_report(study, {first.path(), language, &stored});
      const auto again = write_report(analysed(kind), {second.path(), language, &stored});
      ASSERT_TRUE(files.has_value() && again.has_value());
      for (const auto& [one, other] :
           {std::pair(files->markdown, again->markdown), std::pair(files->json, again->json),
            std::pair(files->html, again->html)}) {
        const auto content = read_file(one, 1 << 24);
        ASSERT_TRUE(content.has_value());
        EXPECT_FALSE(content->empty());
        EXPECT_EQ(*content, *read_file(other, 1 << 24));
      }
    }
  }
}

TEST(Report, JsonParsesAndIsNeutralToLanguage) {
  for (const SyntheticKind kind : kKinds) {
    const study::StudyResult study = analysed(kind);
    const auto json = nlohmann::json::parse(render_json(study));
    EXPECT_EQ(json.at("configurations").size(), study.configurations.size());
    EXPECT_EQ(json.at("study").at("name").get<std::string>(), study.spec.name);
    TemporaryFolder english, french;
    ASSERT_TRUE(write_report(study, {english.path(), "en", nullptr}).has_value());
    ASSERT_TRUE(write_report(study, {french.path(), "fr", nullptr}).has_value());
    EXPECT_EQ(*read_file(english.path() / "report.json", 1 << 24),
              *read_file(french.path() / "report.json", 1 << 24));
  }
}

// Cells of a table line: pipes that no backslash escapes.
size_t cells_of(const std::string& line) {
  size_t pipes = 0;
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\') {
      ++i;
    } else if (line[i] == '|') {
      ++pipes;
    }
  }
  return pipes;
}

TEST(Report, MarkdownTablesKeepTheirShape) {
  for (const SyntheticKind kind : kKinds) {
    for (const Language language : {Language::kEnglish, Language::kFrench}) {
      std::istringstream lines(markdown_of(analysed(kind), language));
      std::string line;
      size_t expected = 0;
      int tables = 0;
      bool in_code = false;
      while (std::getline(lines, line)) {
        if (line.starts_with("```")) in_code = !in_code;
        if (in_code || !line.starts_with("|")) {
          expected = 0;
          continue;
        }
        tables += expected == 0;
        if (expected == 0) expected = cells_of(line);
        EXPECT_EQ(cells_of(line), expected) << line;
      }
      EXPECT_GT(tables, 5);
    }
  }
}

TEST(Report, MarkupInNamesStaysText) {
  const study::StudyResult study = analysed(SyntheticKind::kHostile);
  const Scribe scribe(Language::kEnglish);
  const Document document = build_document({study, {}, scribe});
  const std::string html = render_html(document, scribe.numbers());
  for (const char* broken_out : {"<script", "<img src=x", "<b>case", "<!--", "\x01", "\xff"}) {
    EXPECT_THAT(html, Not(HasSubstr(broken_out)));
  }
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(&quot;study&quot;)"));
  EXPECT_THAT(html, Not(HasSubstr("href=\"javascript:")));
  const std::string markdown = render_markdown(document);
  EXPECT_THAT(markdown, HasSubstr("# Comparative grid search: &lt;script>"));
  EXPECT_THAT(markdown, HasSubstr("````text\n```\n")) << "the evidence's own fence does not end the block";
}

TEST(Report, HtmlAsksForNothing) {
  const study::StudyResult study = analysed(SyntheticKind::kComplete);
  const Scribe scribe(Language::kFrench);
  const std::string html = render_html(build_document({study, {}, scribe}), scribe.numbers());
  EXPECT_THAT(html, HasSubstr("<html lang=\"fr\">"));
  for (const char* outside : {"http://", "https://", "<script", "@import", "url(", " src="}) {
    EXPECT_THAT(html, Not(HasSubstr(outside)));
  }
}

TEST(Report, AnchorsResolveAndAreUnique) {
  for (const SyntheticKind kind : kKinds) {
    const study::StudyResult study = analysed(kind);
    const Scribe scribe(Language::kEnglish);
    const std::string html = render_html(build_document({study, {}, scribe}), scribe.numbers());
    std::set<std::string> anchors;
    for (size_t at = html.find(" id=\""); at != std::string::npos; at = html.find(" id=\"", at + 1)) {
      EXPECT_TRUE(anchors.insert(html.substr(at + 5, html.find('"', at + 5) - at - 5)).second);
    }
    int links = 0;
    for (size_t at = html.find("href=\"#"); at != std::string::npos; at = html.find("href=\"#", at + 1)) {
      EXPECT_TRUE(anchors.contains(html.substr(at + 7, html.find('"', at + 7) - at - 7)));
      ++links;
    }
    EXPECT_GT(links, 10);
  }
}

TEST(Report, TroubleIsShown) {
  const std::string markdown = markdown_of(analysed(SyntheticKind::kTroubled), Language::kEnglish);
  EXPECT_THAT(markdown, HasSubstr("The study is not complete"));
  EXPECT_THAT(markdown, HasSubstr("out of memory"));
  EXPECT_THAT(markdown, HasSubstr("lower max-num-batched-tokens, or raise gpu-memory-utilization"));
  EXPECT_THAT(markdown, HasSubstr("two clocks disagree by 12 ms"));
  EXPECT_THAT(markdown, HasSubstr("Resolve the failure of `safe_conservative`: out of memory, phase: boot."));
}

TEST(Report, GpusAreShownWhereTheyWereRead) {
  const study::StudyResult with = analysed(SyntheticKind::kGpu), without = analysed(SyntheticKind::kComplete);
  const std::string english = markdown_of(with, Language::kEnglish), french = markdown_of(with, Language::kFrench);
  for (const char* words : {"The GPUs, as their driver reports them", "| Energy per output token, J/token |",
                            "GPU power, W", "GPU peak power, W", "GPU memory, MiB", "GPU throttled",
                            "Other work was on a GPU when the study began", "process 42 holds 3 GiB",
                            "gpu_throttled: in 27.3% of 11 samples", "`energy_per_output_token_j`",
                            "The GPUs are read through their driver"}) {
    EXPECT_THAT(english, HasSubstr(words));
    EXPECT_THAT(markdown_of(without, Language::kEnglish), Not(HasSubstr(words)));
  }
  EXPECT_THAT(english, HasSubstr(" on Synthetic GPU · started "));
  EXPECT_THAT(markdown_of(without, Language::kEnglish), HasSubstr(" on " + without.machine.cpu_model + " · started "));
  for (const char* words : {"Les GPU, d’après leur pilote", "Énergie par jeton produit, J/jeton", "GPU bridé",
                            "Un GPU était occupé", "Les GPU sont lus par leur pilote"}) {
    EXPECT_THAT(french, HasSubstr(words));
    EXPECT_THAT(markdown_of(without, Language::kFrench), Not(HasSubstr(words)));
  }
  const auto metrics_of = [](const study::StudyResult& study) {
    return nlohmann::json::parse(render_json(study))["configurations"][0]["metrics"];
  };
  EXPECT_FALSE(metrics_of(without).contains("gpu_power_w"));
  EXPECT_NEAR(metrics_of(with)["gpu_power_w"]["mean"].get<double>(), 510, 30);
  EXPECT_NEAR(metrics_of(with)["gpu_throttled_share"]["p50"].get<double>(), 2.0 / 11, 1e-12);
  // A configuration without a value beside one that has it is null, not absent.
  study::StudyResult half = with;
  half.configurations[0].metrics["gpu_power_w"] = std::nullopt;
  EXPECT_TRUE(metrics_of(half).at("gpu_power_w").is_null());
}

TEST(Report, NothingMeasuredDecidesNothing) {
  const study::StudyResult study = analysed(SyntheticKind::kEmpty);
  for (const Language language : {Language::kEnglish, Language::kFrench}) {
    const std::string markdown = markdown_of(study, language);
    EXPECT_THAT(markdown, Not(HasSubstr("[x]"))) << "no tick without a record";
    EXPECT_THAT(markdown, Not(HasSubstr("crible serve")));
  }
  EXPECT_THAT(markdown_of(study, Language::kEnglish),
              HasSubstr("No configuration is proposed for production"));
}

TEST(Report, RefusesWhatItCannotDo) {
  const study::StudyResult study = make_small_study();
  TemporaryFolder folder;
  const auto language = write_report(study, {folder.path(), "de", nullptr});
  ASSERT_FALSE(language.has_value());
  EXPECT_THAT(language.error().message, HasSubstr("'de'"));
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_FALSE(write_report(study, {folder.path() / "missing", "en", nullptr}).has_value());
}

TEST(Report, ConsoleFitsItsWidth) {
  for (const SyntheticKind kind : kKinds) {
    const study::StudyResult study = analysed(kind);
    for (size_t columns = 20; columns <= 200; columns += 9) {
      const std::string plain = console_summary(study, "fr", columns, false);
      std::istringstream lines(plain);
      std::string line;
      while (std::getline(lines, line)) {
        const auto width = std::count_if(line.begin(), line.end(), [](char c) { return (c & 0xc0) != 0x80; });
        EXPECT_LE(width, static_cast<long>(columns)) << line;
      }
      EXPECT_THAT(plain, Not(HasSubstr("\033")));
    }
    EXPECT_THAT(console_summary(study, "en", 120, true), HasSubstr("\033[1m"));
  }
}

}  // namespace
}  // namespace crible::report
