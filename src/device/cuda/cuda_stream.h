// An ordered queue of GPU work, an event that marks a place in it, and a graph of captured work that
// replays at the cost of one launch. Owned and used by one thread.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <utility>

#include "base/result.h"

namespace crible::cuda {

class CudaStream {
 public:
  static Result<CudaStream> create();
  CudaStream(CudaStream&& other) noexcept : stream_(std::exchange(other.stream_, nullptr)) {}
  CudaStream& operator=(CudaStream&& other) noexcept {
    std::swap(stream_, other.stream_);
    return *this;
  }
  ~CudaStream();

  cudaStream_t get() const { return stream_; }
  // Waits for all work enqueued so far; an error of any of it comes out here.
  Status synchronize() const;

 private:
  CudaStream() = default;
  cudaStream_t stream_ = nullptr;
};

class CudaEvent {
 public:
  enum class Timing { kOff, kOn };
  static Result<CudaEvent> create(Timing timing = Timing::kOff);
  CudaEvent(CudaEvent&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  CudaEvent& operator=(CudaEvent&& other) noexcept {
    std::swap(event_, other.event_);
    return *this;
  }
  ~CudaEvent();

  Status record(const CudaStream& stream) const;
  Status synchronize() const;
  // Whether the work before it is done; does not wait. An error is that of the GPU.
  Result<bool> reached() const;
  // Both made with Timing::kOn and reached.
  static Result<double> elapsed_ms(const CudaEvent& start, const CudaEvent& end);

 private:
  CudaEvent() = default;
  cudaEvent_t event_ = nullptr;
};

class CudaGraph {
 public:
  CudaGraph() = default;
  // Runs `enqueue` with the stream in capture mode: its launches are recorded, not executed. Nothing in
  // it may allocate or synchronise.
  static Result<CudaGraph> capture(const CudaStream& stream, const std::function<Status()>& enqueue);
  CudaGraph(CudaGraph&& other) noexcept : executable_(std::exchange(other.executable_, nullptr)) {}
  CudaGraph& operator=(CudaGraph&& other) noexcept {
    std::swap(executable_, other.executable_);
    return *this;
  }
  ~CudaGraph();

  bool empty() const { return executable_ == nullptr; }
  Status launch(const CudaStream& stream) const;

 private:
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace crible::cuda
