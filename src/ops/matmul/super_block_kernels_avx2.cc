// Products with weights in super-blocks of 256 elements (Q4_K, Q5_K, Q6_K), for Avx2.
#include "ops/matmul/lanes_avx2.h"

namespace crible {

const SuperBlockKernels& super_block_kernels_avx2() {
  using V = Avx2Lanes;
  static constexpr SuperBlockKernels kernels = {run<V, Q4_KBlock<V>>, run<V, Q5_KBlock<V>>, run<V, Q6_KBlock<V>>};
  return kernels;
}

}  // namespace crible
