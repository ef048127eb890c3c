// What this machine can do at most, measured once per bench process with the threads of the bench:
// bytes per second of a plain sequential read from memory, and multiply-adds per second in float32 and in
// 16-bit integers by AVX2 (0 where the processor has none).
#pragma once

#include <benchmark/benchmark.h>

#include "device/stream.h"

namespace crible {

struct MachineCeiling {
  double read_bytes_per_s = 0;
  double float_operations_per_s = 0;  // a multiply-add counts two
  double int16_operations_per_s = 0;
};

// CRIBLE_BENCH_THREADS, or one per core.
int bench_threads();

const MachineCeiling& machine_ceiling(Stream& stream);

// Adds GB/s, GOP/s and their shares of the ceiling to a bench's counters.
void report_ceiling(benchmark::State& state, Stream& stream, double bytes, double operations);

}  // namespace crible
