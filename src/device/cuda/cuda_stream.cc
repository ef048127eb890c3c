#include "device/cuda/cuda_stream.h"

#include "device/cuda/cuda_status.h"

namespace crible::cuda {

Result<CudaStream> CudaStream::create() {
  CudaStream stream;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream.stream_, cudaStreamNonBlocking));
  return stream;
}
CudaStream::~CudaStream() {
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}
Status CudaStream::synchronize() const {
  return status_of(cudaStreamSynchronize(stream_), "wait for the GPU");
}

Result<CudaEvent> CudaEvent::create(Timing timing) {
  CudaEvent event;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(
      &event.event_, timing == Timing::kOn ? cudaEventDefault : cudaEventDisableTiming));
  return event;
}
CudaEvent::~CudaEvent() {
  if (event_ != nullptr) (void)cudaEventDestroy(event_);
}
Status CudaEvent::record(const CudaStream& stream) const {
  return status_of(cudaEventRecord(event_, stream.get()), "record an event");
}
Status CudaEvent::synchronize() const {
  return status_of(cudaEventSynchronize(event_), "wait for an event");
}
Result<bool> CudaEvent::reached() const {
  const cudaError_t state = cudaEventQuery(event_);
  if (state == cudaErrorNotReady) return false;
  CRIBLE_RETURN_IF_ERROR(status_of(state, "ask for an event"));
  return true;
}
Result<double> CudaEvent::elapsed_ms(const CudaEvent& start, const CudaEvent& end) {
  float ms = 0;
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&ms, start.event_, end.event_));
  return static_cast<double>(ms);
}

Result<CudaGraph> CudaGraph::capture(const CudaStream& stream, const std::function<Status()>& enqueue) {
  CRIBLE_CUDA_RETURN_IF_ERROR(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  const Status enqueued = enqueue();
  // The capture ends in any case: a stream left in capture mode could not be used again.
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream.get(), &graph);
  CudaGraph result;
  cudaError_t instantiated = cudaSuccess;
  if (enqueued && ended == cudaSuccess) instantiated = cudaGraphInstantiate(&result.executable_, graph, 0);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  CRIBLE_RETURN_IF_ERROR(enqueued);
  CRIBLE_RETURN_IF_ERROR(status_of(ended, "capture a graph"));
  CRIBLE_RETURN_IF_ERROR(status_of(instantiated, "instantiate a graph"));
  return result;
}
CudaGraph::~CudaGraph() {
  if (executable_ != nullptr) (void)cudaGraphExecDestroy(executable_);
}
Status CudaGraph::launch(const CudaStream& stream) const {
  return status_of(cudaGraphLaunch(executable_, stream.get()), "launch a graph");
}

}  // namespace crible::cuda
