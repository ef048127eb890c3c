// crible_logits MODEL [CHUNK]: reads token ids from standard input, runs them as one sequence in chunks
// and writes the logits after every position to standard output, float32, row by row. What
// tools/float64_forward.py compares with its own forward pass.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>

#include "model/logits/piece_runner.h"

namespace crible {
namespace {

Status write_logits(const char* path, int64_t chunk) {
  CRIBLE_TRY(Stream stream, Stream::create_cpu(0));
  CRIBLE_TRY(const std::unique_ptr<Model> model, load_model(path, stream));
  const std::vector<TokenId> ids{std::istream_iterator<TokenId>(std::cin), {}};
  const auto count = static_cast<int64_t>(ids.size());
  for (const TokenId id : ids) {
    if (id < 0 || id >= model->info().vocabulary) {
      return fail(ErrorCode::kInvalidArgument, "token id {} is outside the vocabulary of {}", id,
                  model->info().vocabulary);
    }
  }
  if (count == 0 || count > model->info().context_length) {
    return fail(ErrorCode::kInvalidArgument, "{} token ids on standard input; the model takes 1 to {}", count,
                model->info().context_length);
  }
  CRIBLE_TRY(PieceRunner runner, PieceRunner::create(*model, stream, 1, count, chunk, DType::kF16));
  for (int64_t first = 0; first < count; first += chunk) {
    const auto length = static_cast<size_t>(std::min(chunk, count - first));
    const PieceRunner::Piece piece{
        .sequence = 0, .first = first, .tokens = std::span(ids).subspan(static_cast<size_t>(first), length)};
    const auto logits = runner.step({&piece, 1});
    if (std::fwrite(logits.data(), sizeof(float), logits.size(), stdout) != logits.size()) {
      return fail(ErrorCode::kIo, "standard output does not take the logits");
    }
  }
  return {};
}

}  // namespace
}  // namespace crible

int main(int argc, char** argv) {
  const int64_t chunk = argc > 2 ? std::atoll(argv[2]) : 128;
  if (argc < 2 || argc > 3 || chunk < 1) {
    std::fprintf(stderr, "usage: crible_logits MODEL [CHUNK] < token-ids > logits\n");
    return 2;
  }
  if (const auto status = crible::write_logits(argv[1], chunk); !status) {
    std::fprintf(stderr, "crible_logits: %s\n", status.error().message.c_str());
    return 1;
  }
  return 0;
}
