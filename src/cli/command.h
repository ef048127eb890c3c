// The commands of the `crible` program. Each parses its own arguments (CLI11), returns the exit
// code: 0 done, 1 failed at work, 2 the arguments or a file named in them are wrong.
#pragma once

namespace crible {

int run_inspect(int argc, char** argv);
int run_serve(int argc, char** argv);
int run_study(int argc, char** argv);

}  // namespace crible
