// What a configuration must pass before it is measured: it answers a question with sane text. And after
// trouble: it still answers. Numbers of a server that talks nonsense are worth nothing.
#pragma once

#include <atomic>
#include <string>
#include <string_view>

#include "load/client.h"
#include "study/run/attempt.h"

namespace crible::study {

// Asks through the chat route. The answer's text, or why it is not sane (kQuality) or did not come.
Attempt<std::string> smoke_gate(load::Client& client, const std::string& model,
                                const std::atomic<bool>& stop);

// Empty if the text is fit to be an answer; else what is wrong with it: empty, not UTF-8, or one short
// piece over and over.
std::string sanity_complaint(std::string_view text);

}  // namespace crible::study
