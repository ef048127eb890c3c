// NCCL, loaded when the first group of GPUs is formed: a program that uses one GPU needs it neither installed nor
// in memory. Switches NVLink multicast off before NCCL starts.
#pragma once

#include <nccl.h>

#include <string_view>

#include "base/result.h"

namespace crible::cuda {

// Pointers to the library's functions; valid for the life of the process.
struct NcclLibrary {
  decltype(&ncclGetVersion) get_version = nullptr;
  decltype(&ncclGetErrorString) error_string = nullptr;
  decltype(&ncclGetLastError) last_error = nullptr;
  decltype(&ncclCommInitAll) init_all = nullptr;
  decltype(&ncclCommDestroy) destroy = nullptr;
  decltype(&ncclCommAbort) abort = nullptr;
  decltype(&ncclCommGetAsyncError) async_error = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
};

// Loads it on the first call; any thread. kUnavailable with the places looked in.
Result<const NcclLibrary*> nccl_library();

// `what` names the call and its purpose: "add up 8 MiB over 4 GPUs".
Status status_of(const NcclLibrary& nccl, ncclResult_t result, std::string_view what);

}  // namespace crible::cuda
