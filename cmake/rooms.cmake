# What every room's files are compiled behind; see precompiled.h.
if(CRIBLE_PRECOMPILE)
  file(WRITE ${CMAKE_BINARY_DIR}/precompiled.cc "")
  add_library(crible_precompiled OBJECT ${CMAKE_BINARY_DIR}/precompiled.cc)
  target_link_libraries(crible_precompiled PUBLIC Threads::Threads fmt::fmt spdlog::spdlog
                                                  nlohmann_json::nlohmann_json tl::expected)
  target_precompile_headers(crible_precompiled PRIVATE ${CMAKE_CURRENT_LIST_DIR}/precompiled.h)
endif()

function(crible_precompile target)
  if(CRIBLE_PRECOMPILE)
    target_precompile_headers(${target} REUSE_FROM crible_precompiled)
  endif()
endfunction()

# crible_room(NAME DEPS room... LINK library...)
#
# One library per folder under src/. Every NAME.cc is part of it; every NAME_test.cc is part of the
# room's one test program (registered test by test with CTest); every NAME_bench.cc of its one
# bench program. Files named *_avx2.cc, *_avx512.cc, *_amx.cc are compiled for that instruction set and must
# only be reached behind a run-time check (device/cpu/cpu_features.h).
function(crible_room name)
  cmake_parse_arguments(ROOM "" "" "DEPS;LINK;TEST_LINK" ${ARGN})
  file(GLOB_RECURSE all CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  list(FILTER all EXCLUDE REGEX "/cuda/|_cuda(_test|_bench)?\\.cc$")  # cuda.cmake's
  set(tests ${all})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  set(benches ${all})
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  set(sources ${all})
  list(FILTER sources EXCLUDE REGEX "(_test|_bench|/main)\\.cc$")

  foreach(file ${sources})
    if(file MATCHES "_(avx2|avx512|amx)\\.cc$")
      # Other instruction sets than the precompiled header's.
      set_source_files_properties(${file} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
    endif()
    if(file MATCHES "_avx2\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c;-mbmi2")
    elseif(file MATCHES "_avx512\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mfma;-mf16c;-mbmi2;-mprefer-vector-width=512")
    elseif(file MATCHES "_amx\\.cc$")
      set_source_files_properties(${file} PROPERTIES COMPILE_OPTIONS
        "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx512vnni;-mamx-tile;-mamx-int8;-mfma;-mf16c;-mbmi2;-mprefer-vector-width=512")
    endif()
  endforeach()

  set(links Threads::Threads fmt::fmt spdlog::spdlog nlohmann_json::nlohmann_json tl::expected ${ROOM_LINK})
  foreach(dep ${ROOM_DEPS})
    list(APPEND links crible_${dep})
  endforeach()
  if(sources)
    add_library(crible_${name} STATIC ${sources})
    target_include_directories(crible_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(crible_${name} PUBLIC ${links})
    crible_precompile(crible_${name})
  else()
    add_library(crible_${name} INTERFACE)
    target_include_directories(crible_${name} INTERFACE ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(crible_${name} INTERFACE ${links})
  endif()

  if(CRIBLE_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE crible_${name} GTest::gmock GTest::gtest GTest::gtest_main ${ROOM_TEST_LINK})
    crible_precompile(${name}_test)
    target_compile_definitions(${name}_test PRIVATE CRIBLE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
    gtest_discover_tests(${name}_test TEST_PREFIX ${name}. DISCOVERY_MODE PRE_TEST
                         DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT 600)
  endif()
  if(CRIBLE_BENCHES AND benches)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE crible_${name} benchmark::benchmark benchmark::benchmark_main)
    target_compile_definitions(${name}_bench PRIVATE CRIBLE_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  endif()
endfunction()
