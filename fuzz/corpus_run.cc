// Runs a fuzz target over its corpus and over seeded mutations of it, without libFuzzer: the same
// inputs each time, so that what fuzzing once found stays found. Exit 1 when the folder holds nothing.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int kMutationsPerSeed = 24;

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void run(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

std::string mutated(std::string input, const std::string& other, std::mt19937& random) {
  for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
    const size_t at = random() % (input.size() + 1);
    switch (random() % 4) {
      case 0: input.resize(at); break;
      case 1: input.insert(at, other.substr(random() % (other.size() + 1), random() % 64)); break;
      case 2: input.erase(at, random() % 16); break;
      default:
        if (at < input.size()) input[at] = static_cast<char>(random());
    }
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::filesystem::path> paths;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  if (paths.empty()) {
    std::fprintf(stderr, "no corpus: give a folder that holds inputs\n");
    return 1;
  }
  std::vector<std::string> seeds;
  for (const auto& path : paths) seeds.push_back(read(path));
  std::mt19937 random(20260131);
  for (const std::string& seed : seeds) {
    run(seed);
    for (int i = 0; i < kMutationsPerSeed; ++i) run(mutated(seed, seeds[random() % seeds.size()], random));
  }
  std::printf("%zu inputs, %zu runs\n", seeds.size(), seeds.size() * (kMutationsPerSeed + 1));
  return 0;
}
