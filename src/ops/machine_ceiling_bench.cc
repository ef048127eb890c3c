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

double measure_read(Stream& stream) {
  constexpr int64_t kBytes = 256 * kMiB;
  constexpr int64_t kTasks = 64;
  const Buffer buffer = Buffer::allocate(kBytes).value();
  std::fill_n(buffer.as<float>(), kBytes / 4, 1.0f);
  return best_rate(kBytes, [&] {
    stream.pool().parallel_for(kTasks, [&](int64_t task, int) {
      constexpr int64_t kPiece = kBytes / kTasks / static_cast<int64_t>(sizeof(Lanes));
      const Lanes* p = buffer.as<Lanes>() + task * kPiece;
      Lanes sum[4] = {};
      for (int64_t i = 0; i < kPiece; i += 4) {
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) sum[j] += p[i + j];
      }
      for (Lanes& s : sum) benchmark::DoNotOptimize(s);
    });
  });
}

// Ten independent chains of fused multiply-adds hide their latency.
#if defined(__x86_64__)
__attribute__((target("avx2,fma")))
#endif
void multiply_add(int64_t steps) {
  Lanes acc[10];
  for (auto& a : acc) a = Lanes{} + 1.0f;
  const Lanes x = Lanes{} + 0.999f, y = Lanes{} + 0.001f;
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 10  // rolled, the chains would live in memory
    for (auto& a : acc) {
#if defined(__x86_64__)
      a = __builtin_ia32_vfmaddps256(a, x, y);
#else
      a = a * x + y;
#endif
    }
  }
  for (auto& a : acc) benchmark::DoNotOptimize(a);
}

double measure_float(Stream& stream) {
  if (widest_cpu_isa() < CpuIsa::kAvx2) return 0;
  constexpr int64_t kSteps = 1 << 20;
  const int64_t tasks = stream.threads();
  return best_rate(static_cast<double>(tasks * kSteps * 10 * 8 * 2),
                   [&] { stream.pool().parallel_for(tasks, [&](int64_t, int) { multiply_add(kSteps); }); });
}

}  // namespace

int bench_threads() {
  const char* asked = std::getenv("CRIBLE_BENCH_THREADS");
  return asked != nullptr ? std::atoi(asked) : 0;
}

const MachineCeiling& machine_ceiling(Stream& stream) {
  static const MachineCeiling ceiling = {measure_read(stream), measure_float(stream)};
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
}
BENCHMARK(BM_Ceiling);

}  // namespace crible
