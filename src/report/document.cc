#include "report/document.h"

#include <utility>

namespace crible::report {

Span text(std::string words) {
  return {Span::Style::kText, std::move(words), {}, {}};
}
Span strong(std::string words) {
  return {Span::Style::kStrong, std::move(words), {}, {}};
}
Span code(std::string words) {
  return {Span::Style::kCode, std::move(words), {}, {}};
}
Span detail(std::string words) {
  return {Span::Style::kDetail, std::move(words), {}, {}};
}

Span link(std::string words, std::string target) {
  return {Span::Style::kLink, std::move(words), std::move(target), {}};
}

Span noted(Span span, std::string note) {
  span.note = std::move(note);
  return span;
}

std::string plain_text(const Inline& content) {
  std::string all;
  for (const Span& span : content) all += span.text;
  return all;
}

void append(Inline& content, const Inline& more) {
  content.insert(content.end(), more.begin(), more.end());
}

}  // namespace crible::report
