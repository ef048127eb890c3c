#include "report/markdown.h"

#include "report/escape.h"

namespace crible::report {
namespace {

std::string render(const Inline& content, bool in_table) {
  std::string words;
  for (const Span& span : content) {
    std::string one;
    switch (span.style) {
      case Span::Style::kText:
      case Span::Style::kDetail:
      case Span::Style::kLink: one = escape_markdown(span.text); break;
      case Span::Style::kStrong:
        one = span.text.empty() ? "" : "**" + escape_markdown(span.text) + "**";
        break;
      case Span::Style::kCode: one = markdown_code(span.text, in_table); break;
    }
    words += span.target.empty() ? one : "[" + one + "](" + span.target + ")";
  }
  return words;
}

const char* mark_of(Mark mark) {
  switch (mark) {
    case Mark::kNone: return "";
    case Mark::kStrength: return "\u2705 ";
    case Mark::kWeakness: return "\u26a0\ufe0f ";
    case Mark::kRemark: return "\u2139\ufe0f ";
    case Mark::kDone: return "[x] ";
    case Mark::kOpen: return "[ ] ";
  }
  return "";
}

const char* sign_of(Tone tone) {
  switch (tone) {
    case Tone::kGood: return "\u2705 ";
    case Tone::kWarning: return "\u26a0\ufe0f ";
    case Tone::kBad: return "\u274c ";
    case Tone::kInfo: return "\u2139\ufe0f ";
    case Tone::kPlain:
    case Tone::kMuted: return "";
  }
  return "";
}

class Renderer {
 public:
  std::string render_document(const Document& document) {
    out_ = "# " + escape_markdown(document.title) + "\n\n" + escape_markdown(document.subtitle) + "\n\n";
    for (const Block& block : document.lead) std::visit(*this, block);
    for (size_t i = 0; i < document.sections.size(); ++i)
      section(document.sections[i], std::to_string(i + 1), 2);
    out_ += "---\n\n" + escape_markdown(document.colophon) + "\n";
    return std::move(out_);
  }

  void operator()(const Paragraph& paragraph) { out_ += render(paragraph.content, false) + "\n\n"; }
  void operator()(const Heading& heading) { out_ += "**" + escape_markdown(heading.text) + "**\n\n"; }
  void operator()(const CodeBlock& block) { out_ += markdown_fence(block.text, block.language) + "\n"; }
  void operator()(const Figure&) {}

  void operator()(const List& list) {
    for (size_t i = 0; i < list.items.size(); ++i) {
      out_ += list.numbered ? std::to_string(i + 1) + ". " : "- ";
      out_ += mark_of(list.items[i].mark) + render(list.items[i].content, false) + "\n";
    }
    out_ += "\n";
  }

  void operator()(const Callout& callout) {
    out_ += "> " + std::string(sign_of(callout.tone)) + "**" + render_title(callout.title) + "**\n";
    for (const Inline& line : callout.lines) out_ += ">\n> " + render(line, false) + "\n";
    out_ += "\n";
  }

  void operator()(const Table& table) {
    if (!table.caption.empty()) out_ += "*" + escape_markdown(table.caption) + "*\n\n";
    out_ += "|";
    for (const Column& column : table.columns) out_ += " " + escape_markdown(column.header) + " |";
    out_ += "\n|";
    for (const Column& column : table.columns) {
      out_ += column.align == Align::kRight ? "---:|" : column.align == Align::kCenter ? ":---:|" : "---|";
    }
    out_ += "\n";
    for (const auto& row : table.rows) {
      out_ += "|";
      for (const Cell& cell : row)
        out_ += " " + std::string(sign_of(cell.tone)) + render(cell.content, true) + " |";
      out_ += "\n";
    }
    out_ += "\n";
  }

 private:
  // A title is bold as a whole: bold inside it would end it.
  static std::string render_title(Inline title) {
    for (Span& span : title) {
      if (span.style == Span::Style::kStrong) span.style = Span::Style::kText;
    }
    return render(title, false);
  }

  void section(const Section& section_value, const std::string& number, int level) {
    out_ += "<a id=\"" + section_value.anchor + "\"></a>\n\n" + std::string(static_cast<size_t>(level), '#') +
            " " + number + ". " + escape_markdown(section_value.title) + "\n\n";
    for (const Block& block : section_value.blocks) std::visit(*this, block);
    for (size_t i = 0; i < section_value.children.size(); ++i) {
      section(section_value.children[i], number + "." + std::to_string(i + 1), level + 1);
    }
  }

  std::string out_;
};

}  // namespace

std::string render_markdown(const Document& document) {
  return Renderer().render_document(document);
}

}  // namespace crible::report
