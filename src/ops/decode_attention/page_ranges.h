// How the blocks ("pages") of all sequences and KV heads of a step are shared out among equal workers: laid
// end to end, sequence by sequence and head by head, and cut into stretches of as many pages each. A head's
// pages may so fall to several workers in a row, whose partial results are then merged. Pure arithmetic, for
// host and device.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define CRIBLE_HOST_DEVICE __host__ __device__
#else
#define CRIBLE_HOST_DEVICE
#endif

namespace crible::cuda {

struct PageRanges {
  int total = 0;    // pages, at least 1
  int workers = 1;  // that have some

  // With less than `least` pages each, fewer workers take part: a merge costs more than a few pages.
  CRIBLE_HOST_DEVICE static PageRanges of(int total, int workers, int least) {
    const int useful = total / least;
    return {total, useful < 1 ? 1 : useful < workers ? useful : workers};
  }
  // The worker's pages are those from begin(worker) up to begin(worker + 1).
  CRIBLE_HOST_DEVICE int begin(int worker) const {
    return static_cast<int>(static_cast<int64_t>(total) * worker / workers);
  }
  // The worker whose stretch holds the page: the largest w with begin(w) <= page.
  CRIBLE_HOST_DEVICE int worker_of(int page) const {
    return static_cast<int>(((static_cast<int64_t>(page) + 1) * workers - 1) / total);
  }
};

}  // namespace crible::cuda
