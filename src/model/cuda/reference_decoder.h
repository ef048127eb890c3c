// For tests: the decoder in float64, token by token, straight from the definition. Independent of every
// kernel.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "model/cuda/decoder_shape.h"
#include "ops/gpu_values.h"
#include "ops/rope/rope_reference.h"

namespace crible::cuda {

// One matrix or vector as float32 values that BF16 holds exactly. Of a mixture, gate_up and down hold those of
// each expert in turn.
struct ReferenceLayer {
  std::vector<float> attention_norm, qkv, qkv_bias, q_norm, k_norm, output, feed_forward_norm, router, gate_up,
      down;
};

class ReferenceDecoder {
 public:
  DecoderShape shape;
  std::vector<float> embedding, head, output_norm;
  std::vector<ReferenceLayer> layers;

  ReferenceDecoder(RandomValues& random, const DecoderShape& s) : shape(s) {
    const auto values = [&](int64_t count, float mean, float deviation) {
      std::vector<float> v = random.normals(count, deviation);
      for (float& x : v) x = __bfloat162float(__float2bfloat16_rn(x + mean));
      return v;
    };
    const auto matrix = [&](int64_t rows, int64_t columns) {
      return values(rows * columns, 0, 1.0f / std::sqrt(static_cast<float>(columns)));
    };
    const auto norm = [&](int64_t size) { return values(size, 1.0f, 0.2f); };
    const int64_t hidden = s.experts > 0 ? s.expert_feed_forward : s.feed_forward;
    const int64_t stacked = std::max<int64_t>(s.experts, 1);
    embedding = values(s.vocabulary * s.embedding, 0, 1.0f);
    if (!s.tied) head = matrix(s.vocabulary, s.embedding);
    output_norm = norm(s.embedding);
    for (int64_t i = 0; i < s.layers; ++i) {
      layers.push_back({.attention_norm = norm(s.embedding),
                        .qkv = matrix(s.qkv_size(), s.embedding),
                        .qkv_bias = s.qkv_bias ? values(s.qkv_size(), 0, 0.3f) : std::vector<float>(),
                        .q_norm = s.qk_norm ? norm(s.head_size) : std::vector<float>(),
                        .k_norm = s.qk_norm ? norm(s.head_size) : std::vector<float>(),
                        .output = matrix(s.embedding, s.query_size()),
                        .feed_forward_norm = norm(s.embedding),
                        .router = s.experts > 0 ? matrix(s.experts, s.embedding) : std::vector<float>(),
                        .gate_up = matrix(stacked * 2 * hidden, s.embedding),
                        .down = matrix(stacked * s.embedding, hidden)});
    }
  }

  // Logits after each token of one sequence.
  std::vector<std::vector<double>> logits(const std::vector<int32_t>& tokens) const {
    std::vector<std::vector<double>> keys(layers.size()), values(layers.size()), out;
    for (size_t position = 0; position < tokens.size(); ++position) {
      const auto* row = &embedding[static_cast<size_t>(tokens[position] * shape.embedding)];
      std::vector<double> x(row, row + shape.embedding);
      for (size_t l = 0; l < layers.size(); ++l) {
        add(x, multiply(layers[l].output, attend(layers[l], normed(x, layers[l].attention_norm),
                                                 static_cast<int64_t>(position), keys[l], values[l])));
        add(x, feed_forward(layers[l], normed(x, layers[l].feed_forward_norm)));
      }
      out.push_back(multiply(shape.tied ? embedding : head, normed(x, output_norm)));
    }
    return out;
  }

  // The steps of a token, which a test may take apart.
  static void add(std::vector<double>& x, const std::vector<double>& y) {
    for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
  }
  // Of the index-th of `stacked` matrices.
  static std::vector<double> multiply(const std::vector<float>& matrix, const std::vector<double>& x,
                                      size_t stacked = 1, size_t index = 0) {
    std::vector<double> out(matrix.size() / stacked / x.size(), 0.0);
    const float* row = &matrix[index * out.size() * x.size()];
    for (double& sum : out) {
      for (size_t c = 0; c < x.size(); ++c) sum += static_cast<double>(row[c]) * x[c];
      row += x.size();
    }
    return out;
  }
  std::vector<double> feed_forward(const ReferenceLayer& layer, const std::vector<double>& x) const {
    const auto dense = [&](size_t stacked, size_t index) {
      const std::vector<double> both = multiply(layer.gate_up, x, stacked, index);
      std::vector<double> gated;
      for (size_t i = 0; i < both.size() / 2; ++i)
        gated.push_back(both[i] / (1 + std::exp(-both[i])) * both[both.size() / 2 + i]);
      return multiply(layer.down, gated, stacked, index);
    };
    if (shape.experts == 0) return dense(1, 0);
    const std::vector<double> router = multiply(layer.router, x);
    std::vector<size_t> order(router.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return router[a] > router[b]; });
    std::vector<double> out(x.size(), 0.0);
    double total = 0;
    for (int64_t j = 0; j < shape.experts_per_token; ++j)
      total += std::exp(router[order[static_cast<size_t>(j)]]);
    for (int64_t j = 0; j < shape.experts_per_token; ++j) {
      const size_t expert = order[static_cast<size_t>(j)];
      const std::vector<double> y = dense(router.size(), expert);
      for (size_t i = 0; i < out.size(); ++i) out[i] += std::exp(router[expert]) / total * y[i];
    }
    return out;
  }
  std::vector<double> normed(const std::vector<double>& x, const std::vector<float>& weight) const {
    double squares = 0;
    for (const double v : x) squares += v * v;
    const double factor =
        1 / std::sqrt(squares / static_cast<double>(x.size()) + static_cast<double>(shape.epsilon));
    std::vector<double> out;
    for (size_t i = 0; i < x.size(); ++i) out.push_back(x[i] * factor * static_cast<double>(weight[i]));
    return out;
  }
  // One head, normed (where the model does) and rotated.
  std::vector<double> turned(std::vector<double> head, const std::vector<float>& norm,
                             int64_t position) const {
    if (!norm.empty()) head = normed(head, norm);
    return reference_rotate(head, shape.pairing, position);
  }
  std::vector<double> attend(const ReferenceLayer& layer, const std::vector<double>& x, int64_t position,
                             std::vector<double>& keys, std::vector<double>& values) const {
    std::vector<double> qkv = multiply(layer.qkv, x);
    for (size_t i = 0; i < layer.qkv_bias.size(); ++i) qkv[i] += static_cast<double>(layer.qkv_bias[i]);
    const int64_t size = shape.head_size;
    const auto head = [&](int64_t h) {
      return std::vector<double>(qkv.begin() + h * size, qkv.begin() + (h + 1) * size);
    };
    for (int64_t h = 0; h < shape.kv_heads; ++h) {
      const std::vector<double> k = turned(head(shape.heads + h), layer.k_norm, position);
      const std::vector<double> v = head(shape.heads + shape.kv_heads + h);
      keys.insert(keys.end(), k.begin(), k.end());
      values.insert(values.end(), v.begin(), v.end());
    }
    std::vector<double> out;
    for (int64_t h = 0; h < shape.heads; ++h) {
      const std::vector<double> q = turned(head(h), layer.q_norm, position);
      const auto at = [&](int64_t p) {
        return (p * shape.kv_heads + h / (shape.heads / shape.kv_heads)) * size;
      };
      std::vector<double> weights, sum(static_cast<size_t>(size), 0.0);
      double total = 0;
      for (int64_t p = 0; p <= position; ++p) {
        double dot = 0;
        for (int64_t d = 0; d < size; ++d)
          dot += q[static_cast<size_t>(d)] * keys[static_cast<size_t>(at(p) + d)];
        weights.push_back(std::exp(dot / std::sqrt(static_cast<double>(size))));
        total += weights.back();
      }
      for (int64_t p = 0; p <= position; ++p) {
        for (int64_t d = 0; d < size; ++d) {
          sum[static_cast<size_t>(d)] +=
              weights[static_cast<size_t>(p)] / total * values[static_cast<size_t>(at(p) + d)];
        }
      }
      out.insert(out.end(), sum.begin(), sum.end());
    }
    return out;
  }
};

}  // namespace crible::cuda
