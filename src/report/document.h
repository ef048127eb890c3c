// The report before it has a format: sections of typed blocks, built once by the section builders
// and only rendered by markdown, html and console. Text in it is raw: renderers escape it.
// It knows neither the study nor the language.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "report/chart.h"

namespace crible::report {

enum class Tone { kPlain, kGood, kWarning, kBad, kInfo, kMuted };

struct Span {
  enum class Style {
    kText,
    kStrong,
    kCode,
    kDetail,  // secondary: intervals, counts
    kLink,
  };
  Style style = Style::kText;
  std::string text;
  std::string target;  // kLink: "#anchor", or a path relative to the report
  std::string note;    // where a number comes from; HTML shows it on hover
};
using Inline = std::vector<Span>;

Span text(std::string words);
Span strong(std::string words);
Span code(std::string words);
Span detail(std::string words);
Span link(std::string words, std::string target);
Span noted(Span span, std::string note);

// Text alone, styles dropped.
std::string plain_text(const Inline& content);
void append(Inline& content, const Inline& more);

enum class Mark { kNone, kStrength, kWeakness, kRemark, kDone, kOpen };

struct ListItem {
  Mark mark = Mark::kNone;
  Inline content;
};
struct List {
  std::vector<ListItem> items;
  bool numbered = false;
};

struct Paragraph {
  Inline content;
};

// A statement that must not be overlooked.
struct Callout {
  Tone tone = Tone::kInfo;
  Inline title;
  std::vector<Inline> lines;
};

struct CodeBlock {
  std::string language;
  std::string text;
};

enum class Align { kLeft, kRight, kCenter };
struct Column {
  std::string header;
  Align align = Align::kLeft;
};
struct Cell {
  Inline content;
  Tone tone = Tone::kPlain;
};
// The first cell of a row names it. Every row has as many cells as there are columns.
struct Table {
  std::string caption;
  std::vector<Column> columns;
  std::vector<std::vector<Cell>> rows;
};

struct Figure {
  std::string title;
  std::string caption;  // how to read it
  Chart chart;
};

// A small heading inside a section, not in the table of contents.
struct Heading {
  std::string text;
};

using Block = std::variant<Paragraph, List, Callout, CodeBlock, Table, Figure, Heading>;

struct Section {
  std::string anchor;  // unique in the document, [a-z0-9-]
  std::string title;
  std::vector<Block> blocks;
  std::vector<Section> children;
};

struct Document {
  std::string language;  // "en", "fr"
  std::string title;
  std::string subtitle;
  std::string contents_title;
  std::vector<Block> lead;  // before the first section
  std::vector<Section> sections;
  std::string colophon;
};

}  // namespace crible::report
