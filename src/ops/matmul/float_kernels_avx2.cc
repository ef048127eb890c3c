// Products with float weights (F32, F16, BF16), for Avx2.
#include "ops/matmul/lanes_avx2.h"

namespace crible {

const FloatKernels& float_kernels_avx2() {
  using V = Avx2Lanes;
  static constexpr FloatKernels kernels = {run<V, F32Weights<V>>, run<V, F16Weights<V>>, run<V, BF16Weights<V>>};
  return kernels;
}

}  // namespace crible
