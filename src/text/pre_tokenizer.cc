#include "text/pre_tokenizer.h"

#include <algorithm>

#include "text/splitting_rules.h"

namespace crible {
namespace {

struct Piece {
  std::string_view text;
  bool first;  // stands at the beginning of the text
};

// The pieces that one step leaves; empty ones are dropped.
class PieceSink {
 public:
  explicit PieceSink(std::vector<Piece>& pieces) : pieces_(pieces) {}

  void add(std::string_view text, bool first) {
    if (!text.empty()) pieces_.push_back({text, first});
  }

 private:
  std::vector<Piece>& pieces_;
};

// A stretch of a piece: a match of the step's pattern, or the gap between two.
struct Stretch {
  size_t begin;
  size_t end;
  bool is_match;
};

void find_stretches(const SplitStep& step, PatternScanner& scanner, std::string_view text,
                    std::vector<Stretch>& stretches) {
  stretches.clear();
  for (size_t at = 0; at < text.size();) {
    const auto match = scanner.next(step.pattern, text, at);
    if (match.begin > at) stretches.push_back({at, match.begin, step.invert});
    if (match.end > match.begin) stretches.push_back({match.begin, match.end, !step.invert});
    at = match.end;
  }
}

// Joins neighbours as the behaviour asks; what is left are the words.
void join_stretches(SplitBehavior behavior, std::vector<Stretch>& stretches) {
  std::vector<Stretch> joined;
  switch (behavior) {
    case SplitBehavior::kIsolated: return;
    case SplitBehavior::kRemoved:
      std::erase_if(stretches, [](const Stretch& stretch) { return stretch.is_match; });
      return;
    case SplitBehavior::kContiguous:
      for (const Stretch& stretch : stretches) {
        if (!joined.empty() && joined.back().is_match == stretch.is_match) {
          joined.back().end = stretch.end;
        } else {
          joined.push_back(stretch);
        }
      }
      break;
    case SplitBehavior::kMergedWithPrevious: {
      bool after_match = false;
      for (const Stretch& stretch : stretches) {
        if (stretch.is_match && !after_match && !joined.empty()) {
          joined.back().end = stretch.end;
        } else {
          joined.push_back(stretch);
        }
        after_match = stretch.is_match;
      }
      break;
    }
    case SplitBehavior::kMergedWithNext: {
      bool before_match = false;
      for (auto stretch = stretches.rbegin(); stretch != stretches.rend(); ++stretch) {
        if (stretch->is_match && !before_match && !joined.empty()) {
          joined.back().begin = stretch->begin;
        } else {
          joined.push_back(*stretch);
        }
        before_match = stretch->is_match;
      }
      std::ranges::reverse(joined);
      break;
    }
  }
  stretches = std::move(joined);
}

class StepRunner {
 public:
  StepRunner(std::deque<std::string>& owned, std::vector<Piece>& out) : owned_(owned), sink_(out) {}

  void input(const Piece& piece) { piece_ = piece; }

  void operator()(const SplitStep& step) {
    find_stretches(step, scanner_, piece_.text, stretches_);
    join_stretches(step.behavior, stretches_);
    for (const Stretch& stretch : stretches_) {
      sink_.add(piece_.text.substr(stretch.begin, stretch.end - stretch.begin),
                piece_.first && stretch.begin == 0);
    }
  }

  void operator()(const MetaspaceStep& step) {
    const std::string_view text = piece_.text;
    std::string marked;
    for (size_t at = 0;;) {
      const size_t space = text.find(' ', at);
      marked.append(text.substr(at, space == std::string_view::npos ? space : space - at));
      if (space == std::string_view::npos) break;
      marked += step.replacement;
      at = space + 1;
    }
    const bool wanted =
        step.prepend == PrependScheme::kAlways || (step.prepend == PrependScheme::kFirst && piece_.first);
    if (wanted && !marked.starts_with(step.replacement)) marked.insert(0, step.replacement);
    const std::string_view kept = owned_.emplace_back(std::move(marked));
    if (!step.split) {
      sink_.add(kept, piece_.first);
      return;
    }
    for (size_t begin = 0; begin < kept.size();) {
      const size_t next =
          kept.find(step.replacement,
                    begin == 0 && !kept.starts_with(step.replacement) ? 0 : begin + step.replacement.size());
      const size_t end = std::min(next, kept.size());
      sink_.add(kept.substr(begin, end - begin), piece_.first && begin == 0);
      begin = end;
    }
  }

  void operator()(const PrefixSpaceStep&) {
    if (piece_.text.starts_with(' ')) {
      sink_.add(piece_.text, piece_.first);
    } else {
      sink_.add(owned_.emplace_back(" " + std::string(piece_.text)), piece_.first);
    }
  }

 private:
  std::deque<std::string>& owned_;
  PieceSink sink_;
  PatternScanner scanner_;
  std::vector<Stretch> stretches_;
  Piece piece_{};
};

}  // namespace

Result<PreTokenizer> PreTokenizer::make(std::string_view name, PreTokenizerLimits limits) {
  const SplittingRule* rule = find_splitting_rule(name);
  if (rule == nullptr) {
    return fail(ErrorCode::kUnsupported,
                "pre-tokenizer \"{}\" is not known to this build; known are {}. Splitting by another "
                "rule would change the model's results, so none is guessed",
                name, fmt::join(splitting_rule_names(), ", "));
  }
  std::vector<PreTokenizerStep> steps;
  for (const char* source : rule->patterns) {
    if (source == nullptr) break;
    CRIBLE_TRY(TextPattern pattern, TextPattern::compile(source, limits.match_steps));
    steps.push_back(SplitStep{.pattern = std::move(pattern)});
  }
  return PreTokenizer(std::move(steps));
}

void PreTokenizer::split(std::string_view text, bool at_text_start, WordList& list) const {
  if (text.empty()) return;
  std::vector<Piece> pieces = {{text, at_text_start}};
  std::vector<Piece> next;
  for (const PreTokenizerStep& step : steps_) {
    next.clear();
    StepRunner runner(list.owned, next);
    for (const Piece& piece : pieces) {
      runner.input(piece);
      std::visit(runner, step);
    }
    pieces.swap(next);
  }
  for (const Piece& piece : pieces) list.words.push_back(piece.text);
}

}  // namespace crible
