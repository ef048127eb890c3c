// What this machine can do at most, measured once per bench process with the threads of the bench:
// bytes per second of a plain sequential read from memory, and float32 multiply-adds per second.
#pragma once

#include <benchmark/benchmark.h>

#include "device/stream.h"

namespace crible {

struct MachineCeiling {
  double read_bytes_per_s;
  double float_operations_per_s;  // a multiply-add counts two
};

// CRIBLE_BENCH_THREADS, or one per core.
int bench_threads();

const MachineCeiling& machine_ceiling(Stream& stream);

// Adds GB/s, GOP/s and their shares of the ceiling to a bench's counters.
void report_ceiling(benchmark::State& state, Stream& stream, double bytes, double operations);

}  // namespace crible
