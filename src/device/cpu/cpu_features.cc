#include "device/cpu/cpu_features.h"

#include <cstdlib>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace crible {
namespace {

#if defined(__x86_64__)
// Tile registers are large: Linux saves them only for processes that have asked (asm/prctl.h; kernels before 5.16 know no
// such request and refuse it). Holds for all threads that are started afterwards.
bool permitted_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Leaf 7, register edx (Intel's manual, volume 2, CPUID).
bool has_amx_int8() {
  constexpr unsigned kTile = 1u << 24, kInt8 = 1u << 25;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  return (d & kTile) != 0 && (d & kInt8) != 0;
}
#endif

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
  f.amx_int8 = has_amx_int8() && permitted_tiles();
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
  if (!(f.avx512_f_bw_dq_vl && f.avx512_vnni)) return CpuIsa::kAvx2;
  return f.amx_int8 ? CpuIsa::kAmx : CpuIsa::kAvx512;
}

Result<CpuIsa> chosen_cpu_isa() {
  const CpuIsa widest = widest_cpu_isa();
  const char* asked = std::getenv("CRIBLE_CPU_ISA");
  if (asked == nullptr || *asked == '\0') return widest;
  for (CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAmx}) {
    if (std::string(asked) != cpu_isa_name(isa)) continue;
    if (isa > widest) {
      return fail(ErrorCode::kUnsupported, "CRIBLE_CPU_ISA={}, but this processor offers at most {}", asked,
                  cpu_isa_name(widest));
    }
    return isa;
  }
  return fail(ErrorCode::kInvalidArgument, "CRIBLE_CPU_ISA={} is not one of scalar, avx2, avx512, amx", asked);
}

const char* cpu_isa_name(CpuIsa isa) {
  switch (isa) {
    case CpuIsa::kScalar: return "scalar";
    case CpuIsa::kAvx2: return "avx2";
    case CpuIsa::kAvx512: return "avx512";
    case CpuIsa::kAmx: return "amx";
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
  add(f.amx_int8, "amx_int8");
  return out.empty() ? "none" : out;
}

}  // namespace crible
