// For tests: random 4-bit weights by definition (integers, zero points, scales), packed as AWQ and GPTQ write
// them, in the order of int4_tiles.h on the device, and their exact values.
#pragma once

#include <cuda_fp16.h>

#include <array>
#include <cstdint>
#include <vector>

#include "device/cuda/gpu_test.h"
#include "ops/gpu_values.h"
#include "ops/matmul/int4_pack_cuda.h"

namespace crible::cuda {

struct Int4Case {
  int64_t rows, columns, group;
  std::vector<uint8_t> q;      // [rows, columns]
  std::vector<uint8_t> zeros;  // [groups, rows]
  std::vector<__half> scales;  // [groups, rows]

  Int4Case(RandomValues& random, int64_t out, int64_t in, int64_t group_size, float deviation)
      : rows(out), columns(in), group(group_size) {
    for (int64_t i = 0; i < rows * columns; ++i) q.push_back(static_cast<uint8_t>(random.integer(0, 15)));
    for (int64_t i = 0; i < columns / group * rows; ++i) {
      zeros.push_back(static_cast<uint8_t>(random.integer(0, 15)));
      scales.push_back(__float2half_rn(deviation / 6.5f * static_cast<float>(0.5 + random.uniform())));
    }
  }
  double weight(int64_t row, int64_t column) const {
    const auto about = static_cast<size_t>(column / group * rows + row);
    return (static_cast<double>(q[static_cast<size_t>(row * columns + column)]) -
            static_cast<double>(zeros[about])) *
           static_cast<double>(__half2float(scales[about]));
  }

  // AutoAWQ: output order 0 2 4 6 1 3 5 7 from the low bits up.
  static constexpr std::array<int, 8> kAwqOrder = {0, 2, 4, 6, 1, 3, 5, 7};
  std::vector<uint32_t> awq_weights() const {
    std::vector<uint32_t> words;
    for (int64_t k = 0; k < columns; ++k) {
      for (int64_t first = 0; first < rows; first += 8) {
        uint32_t word = 0;
        for (size_t n = 0; n < 8; ++n)
          word |= uint32_t{q[static_cast<size_t>((first + kAwqOrder[n]) * columns + k)]} << (4 * n);
        words.push_back(word);
      }
    }
    return words;
  }
  std::vector<uint32_t> awq_zeros() const {
    std::vector<uint32_t> words;
    for (size_t first = 0; first < zeros.size(); first += 8) {
      uint32_t word = 0;
      for (size_t n = 0; n < 8; ++n)
        word |= uint32_t{zeros[first + static_cast<size_t>(kAwqOrder[n])]} << (4 * n);
      words.push_back(word);
    }
    return words;
  }
  std::vector<uint32_t> gptq_weights() const {
    std::vector<uint32_t> words;
    for (int64_t first = 0; first < columns; first += 8) {
      for (int64_t r = 0; r < rows; ++r) {
        uint32_t word = 0;
        for (int64_t n = 0; n < 8; ++n)
          word |= uint32_t{q[static_cast<size_t>(r * columns + first + n)]} << (4 * n);
        words.push_back(word);
      }
    }
    return words;
  }
  std::vector<uint32_t> gptq_zeros(bool less_one) const {
    std::vector<uint32_t> words;
    for (size_t first = 0; first < zeros.size(); first += 8) {
      uint32_t word = 0;
      for (size_t n = 0; n < 8; ++n)
        word |= (((uint32_t{zeros[first + n]} - (less_one ? 1u : 0u)) & 15u)) << (4 * n);
      words.push_back(word);
    }
    return words;
  }
};

// The tiles of a case on the device. Paired: the case's upper half of rows is the gate matrix.
class Int4OnDevice {
 public:
  Int4OnDevice(const CudaStream& stream, const Int4Case& c, bool paired, Int4Source source = Int4Source::kAwq,
               bool less_one = false)
      : tiles_(static_cast<size_t>(int4_bytes(c.rows, c.columns, int4_stored_group(c.group)))) {
    matrix_ = {tiles_.data(), c.rows, c.columns, int4_stored_group(c.group), paired};
    if (!paired) {
      pack(stream, c, source, less_one, 0);
      return;
    }
    // Two matrices in the file, one above the other in memory.
    for (const int64_t part : {0, 1}) pack(stream, half_of(c, part), source, less_one, part * c.rows / 2);
  }
  const Int4Matrix& matrix() const { return matrix_; }

 private:
  static Int4Case half_of(const Int4Case& c, int64_t part) {
    Int4Case half = c;
    half.rows = c.rows / 2;
    half.q.assign(c.q.begin() + part * half.rows * c.columns,
                  c.q.begin() + (part + 1) * half.rows * c.columns);
    half.zeros.clear();
    half.scales.clear();
    for (int64_t g = 0; g < c.columns / c.group; ++g) {
      const int64_t first = g * c.rows + part * half.rows;
      half.zeros.insert(half.zeros.end(), c.zeros.begin() + first, c.zeros.begin() + first + half.rows);
      half.scales.insert(half.scales.end(), c.scales.begin() + first, c.scales.begin() + first + half.rows);
    }
    return half;
  }
  void pack(const CudaStream& stream, const Int4Case& c, Int4Source source, bool less_one,
            int64_t first_row) {
    const bool awq = source == Int4Source::kAwq;
    const auto weights = to_device(awq ? c.awq_weights() : c.gptq_weights());
    const auto zeros = to_device(awq ? c.awq_zeros() : c.gptq_zeros(less_one));
    const auto scales = to_device(c.scales);
    pack_int4(stream,
              {.source = source,
               .rows = c.rows,
               .columns = c.columns,
               .group = c.group,
               .qweight = weights.data(),
               .qzeros = zeros.data(),
               .scales = scales.data(),
               .zeros_less_one = less_one},
              matrix_, first_row);
    CHECK(stream.synchronize());
  }

  DeviceArray<uint8_t> tiles_;
  Int4Matrix matrix_;
};

}  // namespace crible::cuda
