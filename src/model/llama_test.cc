#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <complex>
#include <numeric>

#include "model/logits/piece_runner.h"
#include "model/tiny_llama_file.h"

namespace crible {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using Matrix = std::vector<std::vector<double>>;  // one row per position

// The architecture in double precision, from the same float weights.
class Reference {
 public:
  Reference(const TinyLlamaFile& file, const TinyLlamaShape& shape) : file_(file), s_(shape) {}

  std::vector<double> frequency_factors;
  double linear_factor = 1;

  Matrix logits(const std::vector<TokenId>& ids) const {
    Matrix x;
    for (const TokenId id : ids) {
      const auto* row = values("token_embd.weight").data() + id * s_.embedding;
      x.emplace_back(row, row + s_.embedding);
    }
    for (int64_t i = 0; i < s_.layers; ++i) {
      const std::string block = "blk." + std::to_string(i) + ".";
      add(x, times(attention(norm(x, block + "attn_norm.weight"), block), block + "attn_output.weight"));
      const Matrix normed = norm(x, block + "ffn_norm.weight");
      Matrix gate = times(normed, block + "ffn_gate.weight");
      const Matrix up = times(normed, block + "ffn_up.weight");
      for (size_t t = 0; t < gate.size(); ++t) {
        for (size_t c = 0; c < gate[t].size(); ++c) gate[t][c] *= up[t][c] / (1 + std::exp(-gate[t][c]));
      }
      add(x, times(gate, block + "ffn_down.weight"));
    }
    return times(norm(x, "output_norm.weight"), s_.tied ? "token_embd.weight" : "output.weight");
  }

 private:
  const std::vector<float>& values(const std::string& name) const { return file_.tensors.at(name).values; }

  static void add(Matrix& x, const Matrix& y) {
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t c = 0; c < x[t].size(); ++c) x[t][c] += y[t][c];
    }
  }

  Matrix times(const Matrix& x, const std::string& name) const {
    const TinyTensor& w = file_.tensors.at(name);
    const auto columns = static_cast<size_t>(w.shape[0]), rows = static_cast<size_t>(w.shape[1]);
    Matrix out(x.size(), std::vector<double>(rows, 0));
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t r = 0; r < rows; ++r) {
        for (size_t c = 0; c < columns; ++c) out[t][r] += x[t][c] * static_cast<double>(w.values[r * columns + c]);
      }
    }
    return out;
  }

  Matrix norm(const Matrix& x, const std::string& name) const {
    Matrix out = x;
    for (auto& row : out) {
      const double square = std::inner_product(row.begin(), row.end(), row.begin(), 0.0);
      const double scale = 1 / std::sqrt(square / static_cast<double>(row.size()) + static_cast<double>(1e-5f));
      for (size_t c = 0; c < row.size(); ++c) row[c] *= scale * static_cast<double>(values(name)[c]);
    }
    return out;
  }

  void rotate(Matrix& x, int64_t heads) const {
    for (size_t t = 0; t < x.size(); ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < s_.head_size / 2; ++i) {
          const double factor = frequency_factors.empty() ? 1 : frequency_factors[static_cast<size_t>(i)];
          const double angle = static_cast<double>(t) / linear_factor / factor *
                               std::pow(10000.0, -2.0 * static_cast<double>(i) / static_cast<double>(s_.head_size));
          double* pair = &x[t][static_cast<size_t>(h * s_.head_size + 2 * i)];
          const auto turned = std::complex(pair[0], pair[1]) * std::polar(1.0, angle);
          pair[0] = turned.real();
          pair[1] = turned.imag();
        }
      }
    }
  }

  Matrix attention(const Matrix& x, const std::string& block) const {
    Matrix q = times(x, block + "attn_q.weight"), k = times(x, block + "attn_k.weight");
    const Matrix v = times(x, block + "attn_v.weight");
    rotate(q, s_.heads);
    rotate(k, s_.kv_heads);
    Matrix out(x.size(), std::vector<double>(static_cast<size_t>(s_.heads * s_.head_size), 0));
    const auto size = static_cast<size_t>(s_.head_size);
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t h = 0; h < static_cast<size_t>(s_.heads); ++h) {
        const size_t group = h / static_cast<size_t>(s_.heads / s_.kv_heads) * size;
        std::vector<double> weight(t + 1);
        for (size_t p = 0; p <= t; ++p) {
          const double dot = std::inner_product(&q[t][h * size], &q[t][h * size] + size, &k[p][group], 0.0);
          weight[p] = std::exp(dot / std::sqrt(static_cast<double>(size)));
        }
        const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
        for (size_t p = 0; p <= t; ++p) {
          for (size_t c = 0; c < size; ++c) out[t][h * size + c] += weight[p] / sum * v[p][group + c];
        }
      }
    }
    return out;
  }

  const TinyLlamaFile& file_;
  TinyLlamaShape s_;
};

class LlamaTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<Model>> load(const TinyLlamaFile& file) {
    const auto path = file.write("crible_llama");
    auto model = load_model(path, stream_);
    std::filesystem::remove(path);
    return model;
  }

  std::string error_of(const TinyLlamaFile& file) {
    const auto model = load(file);
    return model ? "loaded" : model.error().message;
  }

  // Logits of all positions, computed in chunks.
  std::vector<float> forward(const Model& model, const std::vector<TokenId>& ids, int64_t chunk) {
    const auto tokens = static_cast<int64_t>(ids.size());
    PieceRunner runner = *PieceRunner::create(model, stream_, 1, tokens, chunk, DType::kF32);
    std::vector<float> logits;
    for (int64_t first = 0; first < tokens; first += chunk) {
      const auto count = static_cast<size_t>(std::min(chunk, tokens - first));
      const PieceRunner::Piece piece{0, first, std::span(ids).subspan(static_cast<size_t>(first), count)};
      const auto rows = runner.step({&piece, 1});
      logits.insert(logits.end(), rows.begin(), rows.end());
    }
    return logits;
  }

  void expect_agreement(const TinyLlamaFile& file, const TinyLlamaShape& shape, const Reference& reference) {
    const auto model = load(file);
    ASSERT_TRUE(model) << model.error().message;
    std::mt19937 random(9);
    std::vector<TokenId> ids(40);
    for (TokenId& id : ids) id = static_cast<TokenId>(random() % static_cast<unsigned>(shape.vocabulary));
    const Matrix expected = reference.logits(ids);
    const std::vector<float> whole = forward(**model, ids, 40);
    for (size_t t = 0; t < ids.size(); ++t) {
      double difference = 0, size = 0;
      for (size_t v = 0; v < expected[t].size(); ++v) {
        const double ours = whole[t * expected[t].size() + v];
        difference += (ours - expected[t][v]) * (ours - expected[t][v]);
        size += expected[t][v] * expected[t][v];
      }
      // A few hundred float32 roundings in a row, each 6e-8 of its operand, of either sign.
      ASSERT_LT(std::sqrt(difference / size), 1e-5) << "position " << t;
    }
    for (const int64_t chunk : {1, 7, 16}) EXPECT_EQ(forward(**model, ids, chunk), whole) << "chunk " << chunk;
  }

  Stream stream_ = std::move(*Stream::create_cpu(2));
};

TEST_F(LlamaTest, AgreesWithDoublePrecision) {
  for (const bool tied : {true, false}) {
    for (const auto& [heads, kv_heads] : {std::pair<int64_t, int64_t>{4, 2}, {4, 4}, {6, 2}, {3, 1}}) {
      const TinyLlamaShape shape{.heads = heads, .kv_heads = kv_heads, .tied = tied};
      const TinyLlamaFile file(shape);
      expect_agreement(file, shape, Reference(file, shape));
    }
  }
}

TEST_F(LlamaTest, ScalesRotationByFactorsOfTheFile) {
  const TinyLlamaShape shape;
  TinyLlamaFile file(shape);
  file.add("rope_freqs.weight", {shape.head_size / 2});
  Reference reference(file, shape);
  for (const float factor : file.tensors.at("rope_freqs.weight").values) {
    reference.frequency_factors.push_back(static_cast<double>(factor));
  }
  expect_agreement(file, shape, reference);
}

TEST_F(LlamaTest, ScalesPositionsLinearly) {
  const TinyLlamaShape shape;
  TinyLlamaFile file(shape);
  file.keys["llama.rope.scaling.type"] = std::string("linear");
  file.keys["llama.rope.scaling.factor"] = 4.0f;
  Reference reference(file, shape);
  reference.linear_factor = 4;
  expect_agreement(file, shape, reference);
}

TEST_F(LlamaTest, NamesTheTensorThatIsMissingExtraMisshapenOrOfUnknownType) {
  const auto changed = [](auto change) {
    TinyLlamaFile file;
    change(file);
    return file;
  };
  EXPECT_THAT(error_of(changed([](auto& f) { f.tensors.erase("blk.1.ffn_up.weight"); })),
              HasSubstr("the tensor blk.1.ffn_up.weight is missing"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.tensors.erase("token_embd.weight"); })),
              HasSubstr("token_embd.weight is missing"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.add("blk.0.attn_sinks.weight", {4}); })),
              HasSubstr("the tensor blk.0.attn_sinks.weight has no place in this architecture"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.add("blk.0.attn_v.weight", {32, 8}); })),
              HasSubstr("blk.0.attn_v.weight has shape [32, 8] but the model's keys ask for [32, 16]"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.add("output_norm.weight", {31}); })), HasSubstr("[31]"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.tensors["blk.0.attn_q.weight"].type = GgmlType::kQ8_1; })),
              HasSubstr("blk.0.attn_q.weight has type Q8_1; this build computes with F32"));
}

TEST_F(LlamaTest, NamesTheKeyThatIsMissingUnknownOrOutOfRange) {
  const auto changed = [](auto change) {
    TinyLlamaFile file;
    change(file);
    return file;
  };
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["general.architecture"] = std::string("mamba"); })),
              AllOf(HasSubstr("the architecture 'mamba' is not supported; this build computes:"), HasSubstr("llama")));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys.erase("llama.block_count"); })), HasSubstr("llama.block_count"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["llama.block_count"] = 0u; })), HasSubstr("llama.block_count is 0"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["llama.attention.clamp_kqv"] = 8.0f; })),
              HasSubstr("the key llama.attention.clamp_kqv is not known"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["llama.attention.head_count_kv"] = 3u; })),
              HasSubstr("4 query heads cannot share 3 key-value heads"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["llama.rope.scaling.type"] = std::string("dynamic"); })),
              HasSubstr("RoPE scaling 'dynamic' is not supported"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["llama.expert_count"] = 8u; })),
              HasSubstr("a mixture of 8 experts is not supported"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["llama.vocab_size"] = 51u; })),
              HasSubstr("llama.vocab_size is 51 but token_embd.weight has 50 rows"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["llama.rope.dimension_count"] = 7u; })), HasSubstr("must be even"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["llama.attention.layer_norm_rms_epsilon"] = -1.0f; })),
              HasSubstr("must be a number above 0"));
  EXPECT_THAT(error_of(changed([](auto& f) { f.keys["llama.attention.value_length"] = 4u; })),
              HasSubstr("values of 4 elements beside keys of 8"));
}

TEST_F(LlamaTest, DescribesItself) {
  const auto model = load(TinyLlamaFile({.tied = false}));
  ASSERT_TRUE(model);
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.quantization, "F32");
  // Embedding and head, two layers of attention, feed-forward and norms, and the last norm.
  EXPECT_EQ(info.parameters, 2 * 50 * 32 + 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 48 + 64) + 32);
  EXPECT_GE((*model)->weight_bytes(), info.parameters * 4);
}

}  // namespace
}  // namespace crible
