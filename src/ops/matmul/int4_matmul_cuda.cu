#include <algorithm>

#include "device/cuda/launch.h"
#include "ops/matmul/int4_matmul_kernel.cuh"

namespace crible::cuda {
namespace {

using namespace int4_matmul_parts;

// Windows below which a share of a tile is not worth a meeting.
constexpr int64_t kFewestWindows = 4;
static_assert(kInt4Counters >= kMaxInt4Blocks * kWarpgroups * 2);
static_assert(kInt4SumBytes >= int64_t{kMaxInt4Blocks} * 2 * kTiles * kInt4TileRows * kLargestInt4Block * 4);

int64_t multiprocessors() {
  int device = 0;
  int count = 0;
  CRIBLE_CUDA_CHECK(cudaGetDevice(&device));
  CRIBLE_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
}

// visit(plan, kernel)
template <int kN, typename Visit>
void for_group(int group, Visit&& visit) {
  if (group == 128) return visit(Plan<kN, 1>(), &int4_matmul_kernel<kN, 1>);
  if (group == 64) return visit(Plan<kN, 2>(), &int4_matmul_kernel<kN, 2>);
  visit(Plan<kN, 4>(), &int4_matmul_kernel<kN, 4>);
}
template <typename Visit>
void for_kernel(int64_t block, int group, Visit&& visit) {
  switch (block) {
    case 8: return for_group<8>(group, visit);
    case 16: return for_group<16>(group, visit);
    case 32: return for_group<32>(group, visit);
    case 64: return for_group<64>(group, visit);
    case kLargestInt4Block: return for_group<kLargestInt4Block>(group, visit);
    default: CHECK(false, "blocks of {} rows", block);
  }
}

}  // namespace

int64_t int4_block_rows(int64_t rows) {
  int64_t block = 8;
  while (block < rows && block < kLargestInt4Block) block *= 2;
  return block;
}

void prepare_int4_matmul() {
  for (const int64_t block : {8, 16, 32, 64, 128}) {
    for (const int group : {32, 64, 128}) {
      for_kernel(block, group,
                 [](auto plan, auto* kernel) { allow_shared_bytes(kernel, decltype(plan)::kSharedBytes); });
    }
  }
}

void int4_matmul(const CudaStream& stream, Int4Epilogue epilogue, const Int4MatmulArgs& args) {
  const Int4Matrix& w = args.weight;
  if (args.rows == 0) return;
  CHECK(int4_fits(w.rows, w.columns, w.group) && (epilogue != Int4Epilogue::kSiluMul || w.paired),
        "{} rows of 4-bit {} x {}", args.rows, w.rows, w.columns);
  const int64_t units = Work(args).units;
  const int64_t blocks =
      std::clamp<int64_t>(units / kFewestWindows, 1, std::min<int64_t>(multiprocessors(), kMaxInt4Blocks));
  for_kernel(args.block, w.group, [&](auto plan, auto* kernel) {
    launch(stream.get(),
           {.grid = dim3(static_cast<unsigned>(blocks)),
            .block = dim3(kThreads),
            .shared_bytes = decltype(plan)::kSharedBytes,
            .dependent = true},
           kernel, args, epilogue);
  });
}

}  // namespace crible::cuda
