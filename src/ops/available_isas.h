// The kernel families that a test can run on this machine; says on the test's output which it skips.
#pragma once

#include <cstdio>
#include <vector>

#include "device/cpu/cpu_features.h"

namespace crible {

inline std::vector<CpuIsa> available_isas() {
  std::vector<CpuIsa> isas;
  for (CpuIsa isa : {CpuIsa::kScalar, CpuIsa::kAvx2, CpuIsa::kAvx512, CpuIsa::kAmx}) {
    if (isa <= widest_cpu_isa()) {
      isas.push_back(isa);
    } else {
      std::printf("skipped: this processor has no %s\n", cpu_isa_name(isa));
    }
  }
  return isas;
}

}  // namespace crible
