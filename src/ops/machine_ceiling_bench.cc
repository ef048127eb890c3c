#include "ops/machine_ceiling.h"

#include <algorithm>
#include <cstdlib>

#include "base/clock.h"
#include "base/units.h"
#include "device/buffer.h"
#include "device/cpu/thread_pool.h"

namespace crible {
namespace {

// Best of several passes: others on the machine can only slow one down.
template <typename Pass>
double best_rate(double amount, const Pass& pass) {
  double best = 0;
  for (int i = 0; i < 7; ++i) {
    const TimePoint start = now();
    pass();
    best = std::max(best, amount / to_seconds(now() - start));
  }
  return best;
}

typedef float Lanes __attribute__((vector_size(32)));

// Each task reads four pieces side by side, each line asked for a kilobyte ahead: one stream alone does not keep
// enough lines under way to reach what the memory gives.
double measure_read(Stream& stream) {
  constexpr int64_t kBytes = 512 * kMiB;
  constexpr int64_t kTasks = 64;
  constexpr int64_t kStreams = 4;
  const Buffer buffer = Buffer::allocate(kBytes).value();
  std::fill_n(buffer.as<float>(), kBytes / 4, 1.0f);
  return best_rate(kBytes, [&] {
    stream.pool().parallel_for(kTasks, [&](int64_t task, int) {
      constexpr int64_t kPiece = kBytes / (kTasks * kStreams) / static_cast<int64_t>(sizeof(Lanes));
      const Lanes* p = buffer.as<Lanes>() + task * kStreams * kPiece;
      Lanes sum[2 * kStreams] = {};
      for (int64_t i = 0; i < kPiece; i += 2) {
#pragma GCC unroll 4
        for (int64_t j = 0; j < kStreams; ++j) {
          const Lanes* line = p + j * kPiece + i;
          __builtin_prefetch(line + 32);
          sum[2 * j] += line[0];
          sum[2 * j + 1] += line[1];
        }
      }
      for (Lanes& s : sum) benchmark::DoNotOptimize(s);
    });
  });
}

// Ten independent chains of fused multiply-adds hide their latency.
#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) void multiply_add(int64_t steps) {
  Lanes acc[10];
  for (auto& a : acc) a = Lanes{} + 1.0f;
  const Lanes x = Lanes{} + 0.999f, y = Lanes{} + 0.001f;
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 10  // rolled, the chains would live in memory
    for (auto& a : acc) a = __builtin_ia32_vfmaddps256(a, x, y);
  }
  for (auto& a : acc) benchmark::DoNotOptimize(a);
}
#endif

// The instruction of the quantised kernels, 16 products of 16-bit integers summed in pairs and added to
// 32-bit sums; each step's factors come from its sums, so that no step can be left out.
#if defined(__x86_64__)
typedef short Shorts __attribute__((vector_size(32)));
typedef int Ints __attribute__((vector_size(32)));

__attribute__((target("avx2"))) void multiply_add_int16(int64_t steps) {
  Ints acc[10];
  for (auto& a : acc) a = Ints{} + 7;
  const Shorts x = Shorts{} + 3;
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 10
    for (auto& a : acc) a += __builtin_ia32_pmaddwd256(reinterpret_cast<Shorts>(a), x);
  }
  for (auto& a : acc) benchmark::DoNotOptimize(a);
}
#endif

template <typename Chains>
double measure_chains(Stream& stream, double operations_per_step, const Chains& chains) {
  constexpr int64_t kSteps = 1 << 20;
  const int64_t tasks = stream.threads();
  return best_rate(static_cast<double>(tasks * kSteps) * operations_per_step,
                   [&] { stream.pool().parallel_for(tasks, [&](int64_t, int) { chains(kSteps); }); });
}

MachineCeiling measure(Stream& stream) {
  MachineCeiling ceiling{.read_bytes_per_s = measure_read(stream)};
#if defined(__x86_64__)
  if (widest_cpu_isa() >= CpuIsa::kAvx2) {
    ceiling.float_operations_per_s = measure_chains(stream, 10 * 8 * 2, multiply_add);
    ceiling.int16_operations_per_s = measure_chains(stream, 10 * 16 * 2, multiply_add_int16);
  }
#endif
  return ceiling;
}

}  // namespace

int bench_threads() {
  const char* asked = std::getenv("CRIBLE_BENCH_THREADS");
  return asked != nullptr ? std::atoi(asked) : 0;
}

const MachineCeiling& machine_ceiling(Stream& stream) {
  static const MachineCeiling ceiling = measure(stream);
  return ceiling;
}

void report_ceiling(benchmark::State& state, Stream& stream, double bytes, double operations) {
  const MachineCeiling& ceiling = machine_ceiling(stream);
  using benchmark::Counter;
  state.counters["GB/s"] = Counter(bytes * 1e-9, Counter::kIsRate);
  state.counters["GOP/s"] = Counter(operations * 1e-9, Counter::kIsRate);
  state.counters["of_read"] = Counter(bytes / ceiling.read_bytes_per_s, Counter::kIsRate);
  if (ceiling.float_operations_per_s > 0) {
    state.counters["of_fma"] = Counter(operations / ceiling.float_operations_per_s, Counter::kIsRate);
  }
}

// The ceilings themselves, so that every table of results carries them.
void BM_Ceiling(benchmark::State& state) {
  Stream stream = Stream::create_cpu(bench_threads()).value();
  const MachineCeiling& ceiling = machine_ceiling(stream);
  for (auto _ : state) benchmark::DoNotOptimize(&ceiling);
  state.counters["read_GB/s"] = ceiling.read_bytes_per_s * 1e-9;
  state.counters["fma_GOP/s"] = ceiling.float_operations_per_s * 1e-9;
  state.counters["int16_GOP/s"] = ceiling.int16_operations_per_s * 1e-9;
}
BENCHMARK(BM_Ceiling);

}  // namespace crible
