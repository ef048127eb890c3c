#include "ops/embed/embed_cuda.h"

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"

namespace crible::cuda {
namespace {

using EmbedCuda = GpuTest;

TEST_F(EmbedCuda, CopiesRowsAndGivesZerosForPadding) {
  RandomValues random(1);
  for (const int64_t columns : {8, 576, 4096}) {
    const int64_t vocabulary = 100, tokens = 37;
    const Bf16s table = random_bf16(random, vocabulary * columns);
    std::vector<int32_t> ids;
    for (int64_t t = 0; t < tokens; ++t) ids.push_back(static_cast<int32_t>(random.integer(-1, vocabulary)));
    const auto table_device = to_device(table);
    const auto ids_device = to_device(ids);
    const DeviceArray<__nv_bfloat16> out(static_cast<size_t>(tokens * columns));
    embed(stream(), {.table = table_device.data(),
                     .token_ids = ids_device.data(),
                     .out = out.data(),
                     .tokens = tokens,
                     .columns = columns,
                     .vocabulary = vocabulary});
    finish();
    std::vector<double> reference;
    for (const int32_t id : ids) {
      for (int64_t c = 0; c < columns; ++c) {
        reference.push_back(id < 0 || id == vocabulary ? 0.0
                                                       : exact(table[static_cast<size_t>(id * columns + c)]));
      }
    }
    expect_each_near(out.host(), reference, 0, 0);
  }
}

}  // namespace
}  // namespace crible::cuda
