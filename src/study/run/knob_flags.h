// From knobs to a server's command line. A knob that is false is passed as its explicit negative: an
// absent flag means the server's default, which may be on.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "study/record/spec.h"

namespace crible::study {

// {"--max-num-seqs", "32", "--no-enable-prefix-caching"}; knobs must be canonical.
std::vector<std::string> knob_flags(const Knobs& knobs);

// The words that start `crible serve` in a configuration; port 0 with a ready file.
std::vector<std::string> serve_command(const std::filesystem::path& program, const TargetSpec& target,
                                       const Knobs& knobs, const std::filesystem::path& ready_file);

// Every setting that can change without a restart, with its value (defaults included), as the body
// of a reconfiguration: what an earlier configuration left must not stay.
std::string live_settings_json(const Knobs& knobs);

// Settings that differ between the two and cannot change without a restart; empty: a live change will do.
std::vector<std::string> restart_only_differences(const Knobs& from, const Knobs& to);

// One line that a shell understands, words quoted where needed.
std::string shell_line(const std::vector<std::string>& words);

}  // namespace crible::study
