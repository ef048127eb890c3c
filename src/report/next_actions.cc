#include <algorithm>

#include "report/sections.h"
#include "report/verdict_wording.h"

namespace crible::report {
namespace {

// Adds an action once, however many reasons ask for it.
void add(List& list, Inline words) {
  const std::string plain = plain_text(words);
  const bool known = std::any_of(list.items.begin(), list.items.end(),
                                 [&](const ListItem& item) { return plain_text(item.content) == plain; });
  if (!known) list.items.push_back({Mark::kOpen, std::move(words)});
}

// What keeps a result from being used at all.
List urgent(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  List list;
  if (!context.study.complete) {
    add(list,
        {text(scribe.say(Phrase::kActionResume, {scribe.numbers().integer(context.study.trials_planned -
                                                                          context.study.trials_done)}))});
  }
  for (const study::FailureRecord& failure : context.study.failures) {
    add(list, scribe.compose(Phrase::kActionFailure,
                             {{code(failure.configuration.empty() ? kNotMeasured : failure.configuration)},
                              {text(scribe.cause_label(failure.cause))},
                              {text(scribe.phase_label(failure.phase))}}));
  }
  for (const study::Verdict& verdict : context.study.verdicts) {
    if (verdict.kind != study::VerdictKind::kBlocked) continue;
    add(list, scribe.compose(Phrase::kActionBlocked, {{text(scribe.objective_label(verdict.objective))}}));
  }
  if (!context.study.invalid_trials.empty()) {
    const auto count = static_cast<int64_t>(context.study.invalid_trials.size());
    add(list, {text(scribe.say(Phrase::kActionInvalid, {scribe.numbers().integer(count)}))});
  }
  return list;
}

// What would turn "insufficient" into an answer.
List decisive(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  List list;
  for (const study::Verdict& verdict : context.study.verdicts) {
    const Inline use_case = {text(scribe.objective_label(verdict.objective))};
    std::optional<int64_t> blocks;
    for (const study::VerdictReason& reason : verdict.reasons) {
      const Inline needed = {
          text(reason.n_needed ? scribe.numbers().integer(*reason.n_needed) : kNotMeasured)};
      if (reason.kind == study::ReasonKind::kUnresolvedRival && reason.n_needed) {
        blocks = std::max(blocks.value_or(0), *reason.n_needed);
      } else if (reason.kind == study::ReasonKind::kFewSamples) {
        add(list, scribe.compose(Phrase::kActionSamples,
                                 {use_case, {text(scribe.reference_label(verdict.reference))}, needed}));
      } else if (reason.kind == study::ReasonKind::kFewBlocks) {
        add(list, scribe.compose(Phrase::kActionMoreBlocks, {use_case}));
      }
    }
    if (verdict.kind != study::VerdictKind::kInsufficient) continue;
    if (blocks) {
      add(list, scribe.compose(Phrase::kActionBlocks, {use_case, {text(scribe.numbers().integer(*blocks))}}));
    } else {
      add(list, scribe.compose(Phrase::kActionInsufficient, {use_case}));
    }
  }
  for (const study::ConstraintResult& gate : context.study.constraints) {
    if (gate.state != study::ConstraintState::kNotShown || gate.n_needed <= 0) continue;
    add(list, scribe.compose(Phrase::kActionGate, {{text(constraint_text(scribe, gate.constraint))},
                                                   {text(scribe.numbers().integer(gate.n_needed))}}));
  }
  return list;
}

// What the study did not look at.
List wider(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  List list;
  for (const char* scenario : {"reasoning", "tool_calling", "long_context", "soak"}) {
    if (!has_scenario(context.study, scenario)) {
      add(list, scribe.compose(Phrase::kActionScenario, {{code(scenario)}}));
    }
  }
  return list;
}

}  // namespace

Section build_next_actions(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  Section section{"annex-actions", scribe.say(Phrase::kAnnexActions), {}, {}};
  const std::pair<Phrase, List> groups[] = {{Phrase::kPriorityHigh, urgent(context)},
                                            {Phrase::kPriorityMedium, decisive(context)},
                                            {Phrase::kPriorityLow, wider(context)}};
  for (const auto& [title, list] : groups) {
    if (list.items.empty()) continue;
    section.blocks.push_back(Heading{scribe.say(title)});
    section.blocks.push_back(list);
  }
  return section;
}

}  // namespace crible::report
