// Products with weights in super-blocks of 256 elements (Q4_K, Q5_K, Q6_K), for Avx512.
#include "ops/matmul/lanes_avx512.h"

namespace crible {

const SuperBlockKernels& super_block_kernels_avx512() {
  using V = Avx512Lanes;
  static constexpr SuperBlockKernels kernels = {run<V, Q4_KBlock<V>>, run<V, Q5_KBlock<V>>, run<V, Q6_KBlock<V>>};
  return kernels;
}

}  // namespace crible
