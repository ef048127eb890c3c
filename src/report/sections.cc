#include "report/sections.h"

namespace crible::report {

std::string configuration_anchor(const study::StudyResult& study, const std::string& name) {
  for (size_t i = 0; i < study.configurations.size(); ++i) {
    if (study.configurations[i].name == name) return "configuration-" + std::to_string(i + 1);
  }
  return "";
}

Inline configuration_link(const study::StudyResult& study, const std::string& name) {
  const std::string anchor = configuration_anchor(study, name);
  if (anchor.empty()) return {code(name)};
  Span span = code(name);
  span.target = "#" + anchor;
  return {span};
}

namespace {

// What the numbers are of: the accelerator where there is one.
const std::string& computed_on(const study::MachineRecord& machine) {
  if (!machine.device.empty() && machine.device != "cpu") return machine.device;
  return machine.cpu_model.empty() ? machine.host : machine.cpu_model;
}

}  // namespace

Document build_document(const ReportContext& context) {
  const Scribe& scribe = context.scribe;
  const study::StudyResult& study = context.study;
  Document document;
  document.language = scribe.language() == Language::kFrench ? "fr" : "en";
  document.title = scribe.say(Phrase::kTitle, {study.spec.name});
  document.subtitle = scribe.say(
      Phrase::kSubtitle, {study.model.name.empty() ? study.spec.target.model : study.model.name,
                          computed_on(study.machine),
                          study.started_wall_time.empty() ? kNotMeasured : study.started_wall_time});
  document.contents_title = scribe.say(Phrase::kContents);
  document.lead = build_summary(context);
  document.sections = {build_comparative_table(context), build_configuration_sections(context),
                       build_tradeoffs(context),         build_recommendations(context),
                       build_decision(context),          build_annexes(context)};
  document.colophon = scribe.say(Phrase::kColophon, {study.machine.program_version});
  return document;
}

}  // namespace crible::report
