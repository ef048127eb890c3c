# The CUDA half of the rooms device, ops, model and engine, for Hopper (sm_90a); included when CRIBLE_CUDA is ON.
# Needs nvcc 13, cuBLASLt, FlashInfer's headers (scripts/setup cuda puts them under .venv/cuda) and NCCL's header.
#
# Each part is a library of its own beside its room's, so that a build without CUDA never sees it;
# sources are NAME_cuda.cc, NAME_cuda.cu and everything under a folder cuda/.
set(CMAKE_CUDA_ARCHITECTURES 90a-real)
enable_language(CUDA)
# CMake 3.25 has no name for CUDA C++20: the newest it knows stands for it.
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA17_STANDARD_COMPILE_OPTION -std=c++20)
set(CMAKE_CUDA17_EXTENSION_COMPILE_OPTION -std=c++20)
find_package(CUDAToolkit 13.0 REQUIRED)

# Two heavy templates at a time: a single attention kernel takes up to 4 GB to compile.
set_property(GLOBAL APPEND PROPERTY JOB_POOLS cuda_compile=2)

set(CRIBLE_FLASHINFER ${CMAKE_SOURCE_DIR}/.venv/cuda/flashinfer/data CACHE PATH
    "FlashInfer's headers (scripts/setup cuda)")
if(NOT EXISTS ${CRIBLE_FLASHINFER}/include/flashinfer/page.cuh)
  message(FATAL_ERROR "FlashInfer's headers are not in ${CRIBLE_FLASHINFER}: run scripts/setup cuda")
endif()
# NCCL is loaded when several GPUs are used, not linked: 200 MB that one GPU does without. Its library is looked for by
# the loader first, then where it was found here.
set(CRIBLE_NCCL_WHEEL ${CMAKE_SOURCE_DIR}/.venv/nccl/nvidia/nccl)
find_path(CRIBLE_NCCL_INCLUDE nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS} ${CRIBLE_NCCL_WHEEL}/include)
find_library(CRIBLE_NCCL_LIBRARY NAMES libnccl.so.2 HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib
             ${CRIBLE_NCCL_WHEEL}/lib)
if(NOT CRIBLE_NCCL_INCLUDE)
  message(FATAL_ERROR "nccl.h is not found: run scripts/setup cuda")
endif()

if(CCACHE_PROGRAM)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()
string(APPEND CMAKE_CUDA_FLAGS
       " --expt-relaxed-constexpr -static-global-template-stub=false -Xcompiler=-Wall,-Wno-unused"
       # fmt 9 takes nvcc for a compiler without constexpr.
       " -DFMT_USE_CONSTEXPR=1 -DFMT_CONSTEVAL=")
set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")

# The toolkit's own CCCL is too old for FlashInfer: its wheel's comes first, and not as system headers.
set(CRIBLE_FLASHINFER_INCLUDES
    ${CRIBLE_FLASHINFER}/cccl/cub ${CRIBLE_FLASHINFER}/cccl/libcudacxx/include ${CRIBLE_FLASHINFER}/cccl/thrust
    ${CRIBLE_FLASHINFER}/include ${CRIBLE_FLASHINFER}/cutlass/include ${CRIBLE_FLASHINFER}/cutlass/tools/util/include)

function(crible_cuda_part room)
  cmake_parse_arguments(PART "" "" "DEPS;LINK" ${ARGN})
  file(GLOB_RECURSE all CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/${room}/*.cc ${CMAKE_SOURCE_DIR}/src/${room}/*.cu)
  list(FILTER all INCLUDE REGEX "/cuda/|_cuda(_test|_bench)?\\.(cc|cu)$")
  set(sources ${all})
  list(FILTER sources EXCLUDE REGEX "_test\\.cc$|/gpu_bench/")
  list(FILTER all INCLUDE REGEX "_test\\.cc$")
  set_property(GLOBAL APPEND PROPERTY CRIBLE_CUDA_TESTS ${all})
  add_library(crible_${room}_cuda STATIC ${sources})
  target_include_directories(crible_${room}_cuda PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(crible_${room}_cuda PUBLIC crible_base CUDA::cudart_static ${PART_DEPS} ${PART_LINK})
  set_target_properties(crible_${room}_cuda PROPERTIES JOB_POOL_COMPILE cuda_compile)
  foreach(file ${sources})
    if(file MATCHES "_fa[23]_[a-z0-9_]*cuda\\.cu$")
      # Quoted so that CMake keeps the list of -I flags apart.
      set(flags "--diag-suppress=2908,20012,1444")
      foreach(folder ${CRIBLE_FLASHINFER_INCLUDES})
        list(APPEND flags -I${folder})
      endforeach()
      if(file MATCHES "_fa3_")
        list(APPEND flags -DCUTE_SM90_EXTENDED_MMA_SHAPES_ENABLED)
      endif()
      if(file MATCHES "_fixed_")
        # A step of masked keys must leave a row as it is (ops/attention/flash2_fixed_run.cuh).
        list(APPEND flags -fmad=false)
      endif()
      set_source_files_properties(${file} TARGET_DIRECTORY crible_${room}_cuda PROPERTIES COMPILE_OPTIONS "${flags}")
    endif()
  endforeach()
endfunction()

crible_cuda_part(device LINK ${CMAKE_DL_LIBS})
set(nccl_library "")
if(CRIBLE_NCCL_LIBRARY)
  set(nccl_library ${CRIBLE_NCCL_LIBRARY})
endif()
set_source_files_properties(${CMAKE_SOURCE_DIR}/src/device/cuda/nccl_library.cc TARGET_DIRECTORY crible_device_cuda
                            PROPERTIES COMPILE_DEFINITIONS CRIBLE_NCCL_LIBRARY="${nccl_library}")
target_include_directories(crible_device_cuda SYSTEM PRIVATE ${CRIBLE_NCCL_INCLUDE})
crible_cuda_part(ops DEPS crible_device_cuda LINK CUDA::cublasLt)
crible_cuda_part(model DEPS crible_ops_cuda crible_model)

# The engine's runner of the GPU is part of its room: it and the engine know each other.
file(GLOB CRIBLE_ENGINE_CUDA CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/engine/cuda/*.cc)
set(CRIBLE_ENGINE_CUDA_TESTS ${CRIBLE_ENGINE_CUDA})
list(FILTER CRIBLE_ENGINE_CUDA_TESTS INCLUDE REGEX "_test\\.cc$")
set_property(GLOBAL APPEND PROPERTY CRIBLE_CUDA_TESTS ${CRIBLE_ENGINE_CUDA_TESTS})
list(FILTER CRIBLE_ENGINE_CUDA EXCLUDE REGEX "_test\\.cc$")
target_sources(crible_engine PRIVATE ${CRIBLE_ENGINE_CUDA})
target_link_libraries(crible_engine PUBLIC crible_model_cuda)
target_compile_definitions(crible_engine PRIVATE CRIBLE_CUDA)

if(CRIBLE_TESTS)
  get_property(tests GLOBAL PROPERTY CRIBLE_CUDA_TESTS)
  add_executable(cuda_test ${tests})
  # The CPU operations are what some tests compare with.
  target_link_libraries(cuda_test PRIVATE crible_engine crible_model_cuda crible_ops GTest::gmock GTest::gtest GTest::gtest_main)
  target_compile_definitions(cuda_test PRIVATE CRIBLE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  gtest_discover_tests(cuda_test TEST_PREFIX cuda. DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       PROPERTIES TIMEOUT 600)
endif()
if(CRIBLE_BENCHES AND EXISTS ${CMAKE_SOURCE_DIR}/src/model/cuda/gpu_bench/main.cc)
  file(GLOB CRIBLE_GPU_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/model/cuda/gpu_bench/*.cc)
  add_executable(crible_gpu ${CRIBLE_GPU_SOURCES})
  target_link_libraries(crible_gpu PRIVATE crible_model_cuda)
endif()
