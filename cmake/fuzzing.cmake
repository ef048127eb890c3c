# CRIBLE_FUZZ: only the rooms that read bytes from outside, under libFuzzer's coverage and the
# sanitizers. fuzz/CMakeLists.txt says how to build and run.
if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "CRIBLE_FUZZ needs clang: -DCMAKE_C_COMPILER=clang-14 -DCMAKE_CXX_COMPILER=clang++-14")
endif()
set(CRIBLE_TESTS OFF)
set(CRIBLE_BENCHES OFF)
set(CRIBLE_ROOMS base format text wire)
add_compile_options(-O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined
                    -fno-sanitize-recover=undefined)
add_link_options(-fsanitize=address,undefined)
