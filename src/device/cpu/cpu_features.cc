#include "device/cpu/cpu_features.h"

#include <cstdlib>

namespace crible {
namespace {

CpuFeatures detect() {
  CpuFeatures f;
#if defined(__x86_64__)
  // The compiler's run-time check includes the operating system's part (XCR0): registers that the
  // kernel does not save are reported as absent.
  __builtin_cpu_init();
  f.avx2 = __builtin_cpu_supports("avx2");
  f.fma = __builtin_cpu_supports("fma");
  f.f16c = __builtin_cpu_supports("f16c");
  f.bmi2 = __builtin_cpu_supports("bmi2");
  f.avx512_f_bw_dq_vl = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  f.avx512_vnni = __builtin_cpu_supports("avx512vnni");
#endif
  return f;
}

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

CpuIsa widest_cpu_isa() {
  const CpuFeatures& f = cpu_features();
  if (!(f.avx2 && f.fma && f.f16c && f.bmi2)) return CpuIsa::kScalar;
  return f.avx512_f_bw_dq_vl && f.avx512_vnni ? CpuIsa::kAvx512 : CpuIsa::kAvx2;
}

Result<CpuIsa> chosen_cpu_isa() {
  const CpuIsa widest = widest_cpu_isa();
  const char* asked = std::getenv("CRIBLE_CPU_ISA");
  if (asked == nullptr || *asked == '\0') return widest;
  for (CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (std::string(asked) != cpu_isa_name(isa)) continue;
    if (isa > widest) {
      return fail(ErrorCode::kUnsupported, "CRIBLE_CPU_ISA={}, but this processor offers at most {}", asked,
                  cpu_isa_name(widest));
    }
    return isa;
  }
  return fail(ErrorCode::kInvalidArgument, "CRIBLE_CPU_ISA={} is not one of scalar, avx2, avx512", asked);
}

const char* cpu_isa_name(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kScalar: return "scalar";
    case CpuIsa::kAvx2: return "avx2";
    case CpuIsa::kAvx512: return "avx512";
  }
  return "unknown";
}

std::string describe_cpu_features() {
  const CpuFeatures& f = cpu_features();
  std::string out;
  const auto add = [&](bool present, const char* name) {
    if (!present) return;
    if (!out.empty()) out += ' ';
    out += name;
  };
  add(f.avx2, "avx2");
  add(f.fma, "fma");
  add(f.f16c, "f16c");
  add(f.bmi2, "bmi2");
  add(f.avx512_f_bw_dq_vl, "avx512");
  add(f.avx512_vnni, "avx512_vnni");
  return out.empty() ? "none" : out;
}

}  // namespace crible
