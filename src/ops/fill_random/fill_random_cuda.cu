#include <cuda_fp8.h>

#include "device/cuda/launch.h"
#include "ops/fill_random/fill_random_cuda.h"

namespace crible::cuda {
namespace {

constexpr int kThreads = 256;
constexpr unsigned kBlocks = 4096;
constexpr float kSqrt3 = 1.7320508f;

// SplitMix64's output function: uniform in [-1, 1).
__device__ inline float uniform(uint64_t seed, int64_t i) {
  uint64_t z = seed + static_cast<uint64_t>(i + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  z ^= z >> 31;
  return static_cast<float>(static_cast<int32_t>(z >> 32)) * 0x1p-31f;
}

template <typename T, typename Make>
__global__ void __launch_bounds__(kThreads) fill_kernel(T* out, int64_t count, Make make) {
  for (int64_t i = blockIdx.x * kThreads + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads)
    out[i] = make(i);
}

struct MakeBf16 {
  uint64_t seed;
  float mean, reach;
  __device__ __nv_bfloat16 operator()(int64_t i) const {
    return __float2bfloat16_rn(mean + reach * uniform(seed, i));
  }
};
struct MakeFp8 {
  uint64_t seed;
  __device__ uint8_t operator()(int64_t i) const {
    return __nv_cvt_float_to_fp8(kFp8FillDeviation * kSqrt3 * uniform(seed, i), __NV_SATFINITE, __NV_E4M3);
  }
};
struct MakeConstant {
  float value;
  __device__ float operator()(int64_t) const { return value; }
};

template <typename T, typename Make>
void fill(const CudaStream& stream, T* out, int64_t count, const Make& make) {
  launch(stream.get(), {.grid = dim3(kBlocks), .block = dim3(kThreads)}, &fill_kernel<T, Make>, out, count,
         make);
}

}  // namespace

void fill_random(const CudaStream& stream, __nv_bfloat16* out, int64_t count, uint64_t seed, float mean,
                 float deviation) {
  fill(stream, out, count, MakeBf16{seed, mean, kSqrt3 * deviation});
}
void fill_random_fp8(const CudaStream& stream, uint8_t* out, int64_t count, uint64_t seed) {
  fill(stream, out, count, MakeFp8{seed});
}
void fill_constant(const CudaStream& stream, float* out, int64_t count, float value) {
  fill(stream, out, count, MakeConstant{value});
}

}  // namespace crible::cuda
