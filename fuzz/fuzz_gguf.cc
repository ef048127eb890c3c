// A GGUF file of any bytes: opens or is refused; what it then says of itself can be read, and its
// vocabulary makes a tokenizer or an error.
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <numeric>

#include "base/check.h"
#include "format/gguf.h"
#include "fuzz/tokenizer_exercise.h"

namespace {

// A file in memory with a path of its own.
class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, size_t size) : descriptor_(memfd_create("fuzz", 0)) {
    CHECK(descriptor_ >= 0);
    CHECK(write(descriptor_, data, size) == static_cast<ssize_t>(size));
  }
  ~MemoryFile() { close(descriptor_); }
  std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const MemoryFile memory(data, size);
  const auto file = crible::GgufFile::open(memory.path());
  if (!file) return 0;
  unsigned sum = 0;
  for (const auto& tensor : file->tensors()) {
    CHECK(file->find_tensor(tensor.name) != nullptr);
    // Its bytes are in the file: both ends can be read.
    if (!tensor.data.empty()) {
      sum += static_cast<unsigned>(tensor.data.front()) + static_cast<unsigned>(tensor.data.back());
    }
  }
  CHECK(sum <= 510 * file->tensors().size());
  for (const auto& [key, value] : file->keys()) {
    CHECK(file->has(key));
    (void)file->get_int(key);
    (void)file->get_float(key);
    (void)file->get_string(key);
    (void)file->get_ints(key);
  }
  if (const auto tokenizer = crible::Tokenizer::from_gguf(*file)) crible::exercise_tokenizer(**tokenizer);
  return 0;
}
