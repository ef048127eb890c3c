#define XXH_INLINE_ALL
#include "engine/model_fingerprint.h"

#include <fcntl.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "base/units.h"

namespace crible {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kHeadBytes = kMiB;        // where names, shapes and settings stand
constexpr int64_t kPieceBytes = 64 * kKiB;
constexpr int64_t kPieces = 256;            // a training step changes every matrix, so any of them shows

class FingerprintState {
 public:
  FingerprintState() : state_(XXH3_createState(), &XXH3_freeState) { XXH3_128bits_reset(state_.get()); }
  void add(const void* bytes, size_t count) { XXH3_128bits_update(state_.get(), bytes, count); }
  BlockHash digest() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return {hash.low64, hash.high64};
  }

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

Status add_piece(FingerprintState& state, int fd, int64_t offset, std::vector<char>& buffer, const fs::path& file) {
  size_t filled = 0;
  while (filled < buffer.size()) {
    const ssize_t n = ::pread(fd, buffer.data() + filled, buffer.size() - filled, offset + static_cast<off_t>(filled));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail(ErrorCode::kIo, "cannot read {}: {}", file.string(), std::strerror(errno));
    if (n == 0) break;
    filled += static_cast<size_t>(n);
  }
  state.add(buffer.data(), filled);
  return {};
}

Status add_file(FingerprintState& state, const fs::path& file) {
  std::error_code code;
  const auto size = static_cast<int64_t>(fs::file_size(file, code));
  const int fd = code ? -1 : ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return fail(ErrorCode::kIo, "cannot open {} to tell which model it is", file.string());
  const std::string name = file.filename().string();
  state.add(name.data(), name.size() + 1);
  state.add(&size, sizeof size);
  std::vector<char> buffer(static_cast<size_t>(std::min(size, kHeadBytes)));
  Status added = add_piece(state, fd, 0, buffer, file);
  buffer.resize(static_cast<size_t>(std::min(size, kPieceBytes)));
  for (int64_t piece = 0; added && piece < kPieces && size > kHeadBytes; ++piece) {
    added = add_piece(state, fd, (size - kPieceBytes) / kPieces * (piece + 1), buffer, file);
  }
  ::close(fd);
  return added;
}

}  // namespace

Result<BlockHash> model_fingerprint(const fs::path& model) {
  std::vector<fs::path> files = {model};
  std::error_code code;
  if (fs::is_directory(model, code)) {
    files.clear();
    for (const auto& entry : fs::directory_iterator(model, code)) {
      if (entry.is_regular_file(code)) files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
  }
  FingerprintState state;
  for (const fs::path& file : files) CRIBLE_RETURN_IF_ERROR(add_file(state, file));
  return state.digest();
}

}  // namespace crible
