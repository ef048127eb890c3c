// Products with weights in blocks of 32 elements (Q8_0, Q4_0, Q4_1, Q5_0, Q5_1), for Avx2.
#include "ops/matmul/lanes_avx2.h"

namespace crible {

const BlockKernels& block_kernels_avx2() {
  using V = Avx2Lanes;
  static constexpr BlockKernels kernels = {run<V, Q8_0Block<V>>, run<V, Q4_0Block<V>>, run<V, Q4_1Block<V>>,
                                           run<V, Q5_0Block<V>>, run<V, Q5_1Block<V>>};
  return kernels;
}

}  // namespace crible
