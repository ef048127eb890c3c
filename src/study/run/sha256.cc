#include "study/run/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <fstream>
#include <memory>
#include <span>
#include <vector>

#include "base/check.h"

namespace crible::study {
namespace {

constexpr size_t kReadBytes = 1 << 20;

}  // namespace

Result<std::string> sha256_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(ErrorCode::kIo, "cannot read {}", path.string());
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  CHECK(context && EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) == 1, "libcrypto has no SHA-256");
  std::vector<char> buffer(kReadBytes);
  while (file.read(buffer.data(), std::ssize(buffer)) || file.gcount() > 0) {
    EVP_DigestUpdate(context.get(), buffer.data(), static_cast<size_t>(file.gcount()));
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &size);
  std::string hex;
  for (const unsigned char byte : std::span(digest).first(size)) hex += fmt::format("{:02x}", byte);
  return hex;
}

}  // namespace crible::study
