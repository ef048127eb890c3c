// Where the matrices of a mixture of experts come to lie on the GPU: each compared with what the checkpoint
// says.
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/atomic_file.h"
#include "device/cuda/gpu_test.h"
#include "model/cuda/load_decoder.h"
#include "model/dummy_checkpoint.h"
#include "model/model_registry.h"
#include "ops/matmul/dequantize.h"

namespace crible::cuda {
namespace {

constexpr int64_t kExperts = 16;
constexpr int64_t kHidden = 128;
constexpr int64_t kEmbedding = 256;

class LoadExpertsCuda : public GpuTest {
 protected:
  void SetUp() override {
    GpuTest::SetUp();
    const nlohmann::json config = {{"architectures", {"Qwen3MoeForCausalLM"}},
                                   {"model_type", "qwen3_moe"},
                                   {"torch_dtype", "bfloat16"},
                                   {"hidden_size", kEmbedding},
                                   {"intermediate_size", 512},
                                   {"moe_intermediate_size", kHidden},
                                   {"num_experts", kExperts},
                                   {"num_experts_per_tok", 4},
                                   {"norm_topk_prob", true},
                                   {"num_hidden_layers", 2},
                                   {"num_attention_heads", 4},
                                   {"num_key_value_heads", 2},
                                   {"head_dim", 64},
                                   {"vocab_size", 512},
                                   {"max_position_embeddings", 256},
                                   {"rms_norm_eps", 1e-6},
                                   {"rope_theta", 10000.0},
                                   {"hidden_act", "silu"},
                                   {"tie_word_embeddings", false}};
    std::filesystem::create_directories(folder_);
    ASSERT_TRUE(write_file_atomic(folder_ / "config.json", config.dump()));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static std::vector<float> values(const MatrixSource& source) {
    std::vector<float> wide(static_cast<size_t>(source.rows * source.columns));
    for (int64_t r = 0; r < source.rows; ++r) {
      dequantize(source.dtype, source.data + r * dtype_row_bytes(source.dtype, source.columns),
                 source.columns, &wide[static_cast<size_t>(r * source.columns)]);
    }
    return wide;
  }
  // Rows of a BF16 matrix on the device.
  static std::vector<float> rows(const DeviceMatrix& matrix, int64_t first, int64_t count) {
    std::vector<__nv_bfloat16> narrow(static_cast<size_t>(count * matrix.columns));
    CRIBLE_CUDA_CHECK(cudaMemcpy(narrow.data(),
                                 static_cast<const __nv_bfloat16*>(matrix.data) + first * matrix.columns,
                                 narrow.size() * sizeof(__nv_bfloat16), cudaMemcpyDeviceToHost));
    std::vector<float> wide;
    for (const __nv_bfloat16 v : narrow) wide.push_back(__bfloat162float(v));
    return wide;
  }

  std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("load_experts_" + std::to_string(::getpid()));
  Stream cpu_ = Stream::create_cpu(2).value();
};

TEST_F(LoadExpertsCuda, EveryExpertLiesWhereItsProductsLook) {
  const auto checkpoint = open_dummy_checkpoint(folder_, cpu_).value();
  const DecoderDescription description = describe(*checkpoint).value();
  const auto loaded = load_decoder_weights(*checkpoint, description, WeightFormat());
  ASSERT_TRUE(loaded) << loaded.error().message;
  const DecoderShape& shape = loaded->weights.shape();
  EXPECT_EQ(shape.experts, kExperts);
  EXPECT_EQ(shape.expert_feed_forward, kHidden);
  const auto again = open_dummy_checkpoint(folder_, cpu_).value();
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const DecoderLayer& on_device = loaded->weights.layers()[static_cast<size_t>(layer)];
    const auto name = [&](const char* part) { return fmt::format("blk.{}.{}.weight", layer, part); };
    const auto stack = [&](const char* part, int64_t stack_rows, int64_t columns) {
      return again->experts(name(part), kExperts, stack_rows, columns).value();
    };
    const auto gate = stack("ffn_gate_exps", kHidden, kEmbedding),
               up = stack("ffn_up_exps", kHidden, kEmbedding);
    const auto down = stack("ffn_down_exps", kEmbedding, kHidden);
    EXPECT_EQ(rows(on_device.router, 0, kExperts),
              values(again->matrix(name("ffn_gate_inp"), kExperts, kEmbedding).value()));
    for (int64_t e = 0; e < kExperts; ++e) {
      const auto i = static_cast<size_t>(e);
      EXPECT_EQ(rows(on_device.gate_up, e * 2 * kHidden, kHidden), values(gate[i])) << "gate of expert " << e;
      EXPECT_EQ(rows(on_device.gate_up, e * 2 * kHidden + kHidden, kHidden), values(up[i]))
          << "up of expert " << e;
      EXPECT_EQ(rows(on_device.down, e * kEmbedding, kEmbedding), values(down[i])) << "down of expert " << e;
    }
  }
}

}  // namespace
}  // namespace crible::cuda
