#include "device/cuda/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <string>

namespace crible::cuda {
namespace {

// The functions used are the same from this version on.
constexpr int kOldestVersion = NCCL_VERSION(2, 18, 0);

template <typename Function>
bool find(void* library, const char* name, Function& function) {
  function = reinterpret_cast<Function>(::dlsym(library, name));
  return function != nullptr;
}

Result<void*> open_library() {
  std::string tried;
  for (const char* name : {"libnccl.so.2", CRIBLE_NCCL_LIBRARY}) {
    if (*name == '\0') continue;
    if (void* library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL); library != nullptr) return library;
    tried += fmt::format("{}{}", tried.empty() ? "" : "; ", ::dlerror());
  }
  return fail(ErrorCode::kUnavailable,
              "several GPUs need NCCL, which cannot be loaded ({}); install libnccl2, or run scripts/setup cuda and "
              "set LD_LIBRARY_PATH to the folder that holds libnccl.so.2",
              tried);
}

Result<NcclLibrary> load() {
  // Multicast needs rights on the fabric that a process may lack, and fails late where it does.
  ::setenv("NCCL_NVLS_ENABLE", "0", /*overwrite=*/1);
  CRIBLE_TRY(void* library, open_library());
  NcclLibrary nccl;
  const bool complete =
      find(library, "ncclGetVersion", nccl.get_version) && find(library, "ncclGetErrorString", nccl.error_string) &&
      find(library, "ncclGetLastError", nccl.last_error) && find(library, "ncclCommInitAll", nccl.init_all) &&
      find(library, "ncclCommDestroy", nccl.destroy) && find(library, "ncclCommAbort", nccl.abort) &&
      find(library, "ncclCommGetAsyncError", nccl.async_error) && find(library, "ncclGroupStart", nccl.group_start) &&
      find(library, "ncclGroupEnd", nccl.group_end) && find(library, "ncclAllReduce", nccl.all_reduce) &&
      find(library, "ncclAllGather", nccl.all_gather);
  int version = 0;
  if (!complete || nccl.get_version(&version) != ncclSuccess || version < kOldestVersion) {
    return fail(ErrorCode::kUnsupported, "the NCCL found is of version {}; at least {} is needed", version,
                kOldestVersion);
  }
  return nccl;
}

}  // namespace

Result<const NcclLibrary*> nccl_library() {
  static const Result<NcclLibrary> library = load();
  if (!library) return tl::unexpected<Error>(library.error());
  return &*library;
}

Status status_of(const NcclLibrary& nccl, ncclResult_t result, std::string_view what) {
  if (result == ncclSuccess) return {};
  // Of any communicator: the last error of this thread.
  const char* detail = nccl.last_error(nullptr);
  const bool has_detail = detail != nullptr && *detail != '\0';
  return fail(ErrorCode::kInternal, "NCCL: {}: {}{}{}", what, nccl.error_string(result), has_detail ? ": " : "",
              has_detail ? detail : "");
}

}  // namespace crible::cuda
