// Products of many rows with quantised weights, by AMX.
#include "ops/matmul/amx_tiles.h"

namespace crible {

const BlockKernels& block_kernels_amx() {
  using V = Avx512Lanes;
  static constexpr BlockKernels kernels = {run_amx<Q8_0Block<V>>, run_amx<Q4_0Block<V>>, run_amx<Q4_1Block<V>>,
                                           run_amx<Q5_0Block<V>>, run_amx<Q5_1Block<V>>};
  return kernels;
}

const SuperBlockKernels& super_block_kernels_amx() {
  using V = Avx512Lanes;
  static constexpr SuperBlockKernels kernels = {run_amx<Q4_KBlock<V>>, run_amx<Q5_KBlock<V>>, run_amx<Q6_KBlock<V>>};
  return kernels;
}

}  // namespace crible
