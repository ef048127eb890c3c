// Products with float weights (F32, F16, BF16), for Avx512.
#include "ops/matmul/lanes_avx512.h"

namespace crible {

const FloatKernels& float_kernels_avx512() {
  using V = Avx512Lanes;
  static constexpr FloatKernels kernels = {run<V, F32Weights<V>>, run<V, F16Weights<V>>, run<V, BF16Weights<V>>};
  return kernels;
}

}  // namespace crible
