// Which instruction sets this processor offers, and which of the kernel families that means.
// CRIBLE_CPU_ISA=scalar|avx2|avx512|amx lowers the choice, for tests and for reproducing on one machine
// what another one computes; it never raises it.
#pragma once

#include <string>

#include "base/result.h"

namespace crible {

// Ordered: a processor that can run one can run those before it.
enum class CpuIsa { kScalar, kAvx2, kAvx512, kAmx };

struct CpuFeatures {
  bool avx2 = false;
  bool fma = false;
  bool f16c = false;
  bool bmi2 = false;
  bool avx512_f_bw_dq_vl = false;
  bool avx512_vnni = false;
  bool amx_int8 = false;  // and the operating system lets this process use tile registers
};

const CpuFeatures& cpu_features();  // of this processor and operating system, read once
CpuIsa widest_cpu_isa();            // what the processor can run, whatever the environment says
// The family to use: the widest one, or what CRIBLE_CPU_ISA asks for. An unknown word, or a family that the
// processor lacks, is an error.
Result<CpuIsa> chosen_cpu_isa();

const char* cpu_isa_name(CpuIsa isa);  // "avx2"
std::string describe_cpu_features();   // "avx2 fma f16c bmi2"

}  // namespace crible
