#include "report/html.h"

#include "report/chart.h"
#include "report/escape.h"

namespace crible::report {
namespace {

constexpr size_t kWideTableColumns = 10;  // from here on in smaller type, so that it fits a laptop's width

std::string render(const Inline& content) {
  std::string words;
  for (const Span& span : content) {
    std::string one = escape_html(span.text);
    const std::string title = span.note.empty() ? "" : " title=\"" + escape_html(span.note) + "\"";
    switch (span.style) {
      case Span::Style::kText:
        if (!title.empty()) one = "<span class=\"sourced\"" + title + ">" + one + "</span>";
        break;
      case Span::Style::kStrong: one = "<strong" + title + ">" + one + "</strong>"; break;
      case Span::Style::kCode: one = "<code" + title + ">" + one + "</code>"; break;
      case Span::Style::kDetail: one = "<span class=\"detail\"" + title + ">" + one + "</span>"; break;
      case Span::Style::kLink: break;
    }
    words += span.target.empty() ? one : "<a href=\"" + escape_html(span.target) + "\">" + one + "</a>";
  }
  return words;
}

const char* tone_class(Tone tone) {
  switch (tone) {
    case Tone::kPlain: return "plain";
    case Tone::kGood: return "good";
    case Tone::kWarning: return "warning";
    case Tone::kBad: return "bad";
    case Tone::kInfo: return "info";
    case Tone::kMuted: return "muted";
  }
  return "plain";
}

struct MarkStyle {
  const char* css_class;
  const char* sign;
};

MarkStyle style_of(Mark mark) {
  switch (mark) {
    case Mark::kNone: return {"none", ""};
    case Mark::kStrength: return {"strength", "+"};
    case Mark::kWeakness: return {"weakness", "\u2212"};
    case Mark::kRemark: return {"remark", "\u00b7"};
    case Mark::kDone: return {"done", "\u2713"};
    case Mark::kOpen: return {"open", ""};
  }
  return {"none", ""};
}

const char* align_class(Align align) {
  return align == Align::kRight ? " class=\"right\"" : align == Align::kCenter ? " class=\"center\"" : "";
}

class Renderer {
 public:
  explicit Renderer(const NumberFormat& numbers) : numbers_(numbers) {}

  std::string render_document(const Document& document);

  void operator()(const Paragraph& paragraph) { out_ += "<p>" + render(paragraph.content) + "</p>\n"; }
  void operator()(const Heading& heading) { out_ += "<h4>" + escape_html(heading.text) + "</h4>\n"; }
  void operator()(const CodeBlock& block) {
    out_ += "<pre><code>" + escape_html(block.text) + "</code></pre>\n";
  }
  void operator()(const Figure& figure) {
    out_ += "<figure>\n<figcaption><strong>" + escape_html(figure.title) + "</strong> " +
            escape_html(figure.caption) + "</figcaption>\n" + draw(figure.chart, figure.title, numbers_) +
            "</figure>\n";
  }
  void operator()(const List& list) {
    const char* element = list.numbered ? "ol" : "ul";
    out_ += std::string("<") + element + " class=\"points\">\n";
    for (const ListItem& item : list.items) {
      const MarkStyle style = style_of(item.mark);
      out_ += std::string("<li class=\"") + style.css_class + "\">";
      if (item.mark != Mark::kNone) out_ += std::string("<span class=\"sign\">") + style.sign + "</span>";
      out_ += "<span>" + render(item.content) + "</span></li>\n";
    }
    out_ += std::string("</") + element + ">\n";
  }
  void operator()(const Callout& callout) {
    out_ += std::string("<div class=\"callout ") + tone_class(callout.tone) +
            "\">\n<p class=\"callout-title\">" + render(callout.title) + "</p>\n";
    for (const Inline& line : callout.lines) out_ += "<p>" + render(line) + "</p>\n";
    out_ += "</div>\n";
  }
  void operator()(const Table& table) {
    const bool wide = table.columns.size() >= kWideTableColumns;
    out_ += std::string("<div class=\"table") + (wide ? " wide" : "") + "\" tabindex=\"0\"><table>\n";
    if (!table.caption.empty()) out_ += "<caption>" + escape_html(table.caption) + "</caption>\n";
    out_ += "<thead><tr>";
    for (const Column& column : table.columns) {
      out_ += std::string("<th scope=\"col\"") + align_class(column.align) + ">" +
              escape_html(column.header) + "</th>";
    }
    out_ += "</tr></thead>\n<tbody>\n";
    for (const auto& row : table.rows) table_row(table, row);
    out_ += "</tbody></table></div>\n";
  }

 private:
  void table_row(const Table& table, const std::vector<Cell>& row) {
    out_ += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string element = i == 0 ? "th" : "td";
      out_ += "<" + element + (i == 0 ? " scope=\"row\"" : "") + align_class(table.columns[i].align) + ">";
      const bool pill = row[i].tone != Tone::kPlain && row[i].tone != Tone::kMuted;
      out_ += pill ? std::string("<span class=\"pill ") + tone_class(row[i].tone) + "\">" +
                         render(row[i].content) + "</span>"
                   : render(row[i].content);
      out_ += "</" + element + ">";
    }
    out_ += "</tr>\n";
  }

  void section(const Section& value, const std::string& number, int level) {
    const std::string heading = "h" + std::to_string(level);
    out_ += "<section id=\"" + escape_html(value.anchor) + "\">\n<" + heading + "><span class=\"number\">" +
            number + "</span>" + escape_html(value.title) + "</" + heading + ">\n";
    for (const Block& block : value.blocks) std::visit(*this, block);
    for (size_t i = 0; i < value.children.size(); ++i) {
      section(value.children[i], number + "." + std::to_string(i + 1), level + 1);
    }
    out_ += "</section>\n";
  }

  void contents(const Document& document) {
    const std::string title = escape_html(document.contents_title);
    out_ += "<nav class=\"contents\" aria-label=\"" + title + "\">\n<p>" + title + "</p>\n<ol>\n";
    for (const Section& top : document.sections) {
      out_ += "<li><a href=\"#" + escape_html(top.anchor) + "\">" + escape_html(top.title) + "</a>";
      if (!top.children.empty()) out_ += "\n<ol>\n";
      for (const Section& child : top.children) {
        out_ +=
            "<li><a href=\"#" + escape_html(child.anchor) + "\">" + escape_html(child.title) + "</a></li>\n";
      }
      out_ += top.children.empty() ? "</li>\n" : "</ol></li>\n";
    }
    out_ += "</ol>\n</nav>\n";
  }

  const NumberFormat& numbers_;
  std::string out_;
};

std::string Renderer::render_document(const Document& document) {
  out_ = "<!DOCTYPE html>\n<html lang=\"" + escape_html(document.language) +
         "\">\n<head>\n<meta charset=\"utf-8\">\n"
         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
         "<meta name=\"color-scheme\" content=\"light dark\">\n"
         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
         "style-src 'unsafe-inline'; img-src data:\">\n"
         "<link rel=\"icon\" href=\"data:,\">\n<title>" +
         escape_html(document.title) + "</title>\n<style>\n";
  out_ += page_style();
  out_ += "</style>\n</head>\n<body>\n<div class=\"page\">\n";
  contents(document);
  out_ += "<main>\n<header>\n<p class=\"brand\">Crible</p>\n<h1>" + escape_html(document.title) +
          "</h1>\n<p class=\"subtitle\">" + escape_html(document.subtitle) +
          "</p>\n</header>\n<div class=\"lead\">\n";
  for (const Block& block : document.lead) std::visit(*this, block);
  out_ += "</div>\n";
  for (size_t i = 0; i < document.sections.size(); ++i)
    section(document.sections[i], std::to_string(i + 1), 2);
  out_ +=
      "<footer><p>" + escape_html(document.colophon) + "</p></footer>\n</main>\n</div>\n</body>\n</html>\n";
  return std::move(out_);
}

}  // namespace

std::string render_html(const Document& document, const NumberFormat& numbers) {
  return Renderer(numbers).render_document(document);
}

}  // namespace crible::report
