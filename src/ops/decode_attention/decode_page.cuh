// One block of a paged cache (16 tokens of one KV head, BF16 or FP8) in the registers of a warp, laid out so
// that it is read from memory in whole lines and is an operand of the tensor cores as it lies. Lane l = 4·g +
// t.
//
// A line of 8 chunks (16 bytes, or 8 where a head is 64 bytes) is read by 8 lanes. For q·k that puts half of
// a key's chunks, t, under one column of the product and the other half, t + 4, under its neighbour; the
// first operand's rows 0 to 7 hold the query heads' elements of the former, rows 8 to 15 those of the latter,
// and the two that belong together are added. So all 16 rows are of use with at most 8 heads.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "ops/attention/flashinfer_call.h"
#include "ops/bf16_vector.cuh"

namespace crible::cuda {

inline constexpr int kPageTokens = 16;

// Arithmetic of the operands: BF16 as it is; two E4M3 values widen to FP16, exactly.
template <KvType kType>
struct PageElement;

template <>
struct PageElement<KvType::kBf16> {
  static constexpr int kBytes = 2;
  __device__ static void multiply(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                  uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
  __device__ static uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
};

template <>
struct PageElement<KvType::kFp8> {
  static constexpr int kBytes = 1;
  __device__ static uint32_t widen(uint32_t two) {
    uint32_t halves;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<uint16_t>(two)));
    return halves;
  }
  __device__ static void multiply(float (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3,
                                  uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
  __device__ static uint32_t pack(float low, float high) {
    constexpr float kLargest = 65504.0f;
    const __half2 pair =
        __floats2half2_rn(fminf(fmaxf(low, -kLargest), kLargest), fminf(fmaxf(high, -kLargest), kLargest));
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
};

template <int kHeadSize, KvType kType>
struct PageSizes {
  static constexpr int kRowBytes = kHeadSize * PageElement<kType>::kBytes;
  static constexpr int kChunkBytes = kRowBytes >= 128 ? 16 : 8;
  static constexpr int kLineBytes = 8 * kChunkBytes;
  static constexpr int kLines = kRowBytes / kLineBytes;
  static constexpr int kWords = kChunkBytes / 4;
  static constexpr int kChunk = kChunkBytes / PageElement<kType>::kBytes;  // elements
  static constexpr int kSteps = kChunk / 4;                                // products along a chunk of a key
  static constexpr int kTiles = kLines * kChunk / 2;                       // products along a value
};

template <int kWords>
__device__ inline void load_streaming(uint32_t (&words)[kWords], const uint8_t* from) {
  // Volatile: a request must leave where it is written, not where its words are wanted.
  if constexpr (kWords == 4) {
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "l"(from));
  } else {
    asm volatile("ld.global.L1::no_allocate.v2.u32 {%0,%1}, [%2];"
                 : "=r"(words[0]), "=r"(words[1])
                 : "l"(from));
  }
}

// The query heads of one KV head as first operands. x: chunks t of each line, y: chunks t + 4.
template <int kHeadSize, KvType kType>
struct PageQuery {
  using S = PageSizes<kHeadSize, kType>;
  uint32_t x[S::kLines][S::kSteps][2];
  uint32_t y[S::kLines][S::kSteps][2];

  // heads: [group, head_size]. Rows beyond the group repeat its last head; nobody reads their results.
  __device__ void load(const __nv_bfloat16* heads, int group) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
    const __nv_bfloat16* head = heads + min(g, group - 1) * kHeadSize;
#pragma unroll
    for (int line = 0; line < S::kLines; ++line) {
      load_chunk(x[line], head + (8 * line + t) * S::kChunk);
      load_chunk(y[line], head + (8 * line + t + 4) * S::kChunk);
    }
  }

 private:
  __device__ static void load_chunk(uint32_t (&to)[S::kSteps][2], const __nv_bfloat16* from) {
#pragma unroll
    for (int part = 0; part < S::kChunk / kVector; ++part) {
      const uint4 raw = *reinterpret_cast<const uint4*>(from + part * kVector);
      const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        uint32_t& operand = to[2 * part + w / 2][w % 2];
        if constexpr (kType == KvType::kBf16) {
          operand = words[w];
        } else {
          operand = PageElement<kType>::pack(__uint_as_float(words[w] << 16),
                                             __uint_as_float(words[w] & 0xFFFF0000));
        }
      }
    }
  }
};

template <int kHeadSize, KvType kType>
struct Page {
  using S = PageSizes<kHeadSize, kType>;
  using E = PageElement<kType>;
  // Of the tokens 8·i + 2·(l / 8) + b, chunk l % 8 of each line.
  uint32_t keys[2][2][S::kLines][S::kWords];
  // Of the tokens 2t, 2t + 1, 2t + 8 and 2t + 9, chunk g of each line.
  uint32_t values[4][S::kLines][S::kWords];

  __device__ void load_keys(const uint8_t* k) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const uint8_t* from = k + lane / 8 * 2 * S::kRowBytes + lane % 8 * S::kChunkBytes;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
#pragma unroll
        for (int line = 0; line < S::kLines; ++line)
          load_streaming(keys[i][b][line], from + (8 * i + b) * S::kRowBytes + line * S::kLineBytes);
      }
    }
  }
  __device__ void load_values(const uint8_t* v) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
    const uint8_t* from = v + 2 * t * S::kRowBytes + g * S::kChunkBytes;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int line = 0; line < S::kLines; ++line)
        load_streaming(values[i][line], from + (i % 2 + i / 2 * 8) * S::kRowBytes + line * S::kLineBytes);
    }
  }
  // What lies there from before may be anything, and 0 · NaN is not 0.
  __device__ void clear_values_from(int present) {
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (2 * t + i % 2 + i / 2 * 8 < present) continue;
#pragma unroll
      for (int line = 0; line < S::kLines; ++line) {
#pragma unroll
        for (int w = 0; w < S::kWords; ++w) values[i][line][w] = 0;
      }
    }
  }
  // The token's key and value, instead of what the cache has there.
  __device__ void insert(int token, const uint8_t* key, const uint8_t* value) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int t = lane % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool key_is_here = 8 * (i / 2) + lane / 8 * 2 + i % 2 == token;
      const bool value_is_here = 2 * t + i % 2 + i / 2 * 8 == token;
#pragma unroll
      for (int line = 0; line < S::kLines; ++line) {
        const auto* k =
            reinterpret_cast<const uint32_t*>(key + line * S::kLineBytes + lane % 8 * S::kChunkBytes);
        const auto* v =
            reinterpret_cast<const uint32_t*>(value + line * S::kLineBytes + lane / 4 * S::kChunkBytes);
#pragma unroll
        for (int w = 0; w < S::kWords; ++w) {
          if (key_is_here) keys[i / 2][i % 2][line][w] = k[w];
          if (value_is_here) values[i][line][w] = v[w];
        }
      }
    }
  }
  // q·k, unscaled, of query head g and the tokens 8·i + 2·t + b.
  __device__ void score(const PageQuery<kHeadSize, kType>& q, float (&scores)[2][2]) const {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        float c[4] = {};
#pragma unroll
        for (int line = 0; line < S::kLines; ++line) {
#pragma unroll
          for (int step = 0; step < S::kSteps; ++step) {
            const uint32_t(&words)[S::kWords] = keys[i][b][line];
            uint32_t low, high;
            if constexpr (kType == KvType::kBf16) {
              low = words[2 * step];
              high = words[2 * step + 1];
            } else {
              low = E::widen(words[step]);
              high = E::widen(words[step] >> 16);
            }
            E::multiply(c, q.x[line][step][0], q.y[line][step][0], q.x[line][step][1], q.y[line][step][1],
                        low, high);
          }
        }
        scores[i][b] = c[0] + c[3];
      }
    }
  }
};

// A warp's running softmax over its pages. Maximum and sum are of query head g, the sum this lane's share.
// values[j]: of head 2t in [0] and [2], of head 2t + 1 in [1] and [3]; their places are element(j) and the
// next.
template <int kHeadSize, KvType kType>
struct WarpSoftmax {
  using S = PageSizes<kHeadSize, kType>;
  using E = PageElement<kType>;
  float maximum = -INFINITY;
  float sum = 0;
  float values[S::kTiles][4] = {};

  __device__ static int element(int j) {
    const int g = static_cast<int>(threadIdx.x) % 32 / 4;
    constexpr int kOfLine = S::kTiles / S::kLines;
    return (j / kOfLine * 8 + g) * S::kChunk + j % kOfLine * 2;
  }
  // The page has `present` tokens, at least one. scale: of the scores, for powers of 2.
  __device__ void add(const Page<kHeadSize, kType>& page, float (&scores)[2][2], float scale, int present) {
    const int t = static_cast<int>(threadIdx.x) % 4;
    float largest = maximum;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        scores[i][b] = 8 * i + 2 * t + b < present ? scores[i][b] * scale : -INFINITY;
        largest = fmaxf(largest, scores[i][b]);
      }
    }
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
    if (__any_sync(~0u, largest > maximum)) {
      // Minus infinity before the first page: a factor of 0.
      const float factor = exp2f(maximum - largest);
      sum *= factor;
      const float even = __shfl_sync(~0u, factor, 8 * t);  // of head 2t
      const float odd = __shfl_sync(~0u, factor, 8 * t + 4);
#pragma unroll
      for (int j = 0; j < S::kTiles; ++j) {
        values[j][0] *= even;
        values[j][1] *= odd;
        values[j][2] *= even;
        values[j][3] *= odd;
      }
      maximum = largest;
    }
    float p[2][2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int b = 0; b < 2; ++b) {
        p[i][b] = exp2f(scores[i][b] - maximum);
        sum += p[i][b];
      }
    }
    weigh(page, E::pack(p[0][0], p[0][1]), E::pack(p[1][0], p[1][1]));
  }

 private:
  // Elements of two tokens in turn become pairs; the weights are, as they lie, the second operand.
  __device__ void weigh(const Page<kHeadSize, kType>& page, uint32_t low, uint32_t high) {
#pragma unroll
    for (int line = 0; line < S::kLines; ++line) {
#pragma unroll
      for (int w = 0; w < S::kWords; ++w) {
        const uint32_t v0 = page.values[0][line][w], v1 = page.values[1][line][w];
        const uint32_t v2 = page.values[2][line][w], v3 = page.values[3][line][w];
        if constexpr (kType == KvType::kBf16) {
          E::multiply(values[line * S::kWords + w], __byte_perm(v0, v1, 0x5410), __byte_perm(v0, v1, 0x7632),
                      __byte_perm(v2, v3, 0x5410), __byte_perm(v2, v3, 0x7632), low, high);
        } else {
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            const uint32_t order = half == 0 ? 0x5140 : 0x7362;
            const uint32_t first = __byte_perm(v0, v1, order);
            const uint32_t second = __byte_perm(v2, v3, order);
            E::multiply(values[2 * (line * S::kWords + w) + half], E::widen(first), E::widen(first >> 16),
                        E::widen(second), E::widen(second >> 16), low, high);
          }
        }
      }
    }
  }
};

}  // namespace crible::cuda
