// `crible serve` from settings to the end of the process: take the port, load the model, prove that it
// runs, say so, serve, drain on a signal.
#pragma once

#include "base/result.h"
#include "server/serve_options.h"

namespace crible {

// Blocks until a signal has ended the server. Settings, model and resolved values go to standard
// output as they become known. The error says what could not be had; kUnavailable is a busy port.
Status serve(const ServeOptions& options);

}  // namespace crible
