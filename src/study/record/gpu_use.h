// What a trial took of the GPUs under it, from their samples. A pure function; what was not sampled is absent.
// Several GPUs count together: their powers, energies and memories are added.
#pragma once

#include <cstdint>
#include <optional>

#include "study/record/trial.h"

namespace crible::study {

struct GpuUse {
  // Between the first and the last sample: from the GPUs' own counters where they have them, because a power
  // reading is an average over up to a second; else the area under the readings.
  std::optional<double> energy_j;
  std::optional<double> mean_power_w;  // that energy over its time
  std::optional<double> peak_power_w;  // largest sum of readings of one moment
  std::optional<int64_t> peak_memory_bytes;
  // Share of the samples in which a power limit, heat or the power supply held the clocks down.
  std::optional<double> throttled_share;
};

GpuUse gpu_use(const TrialRecord& trial);

// Share of the samples whose reasons of throttling hold any of these bits; nothing where no reasons were read.
std::optional<double> throttled_share(const TrialRecord& trial, uint64_t reasons);

}  // namespace crible::study
