# Flags for m3i's own programs, tests and m3i::compiled. None of them reaches a user of m3i::m3i.

target_compile_options(m3i_build_flags INTERFACE
  "$<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-Wall;-Wextra;-Wpedantic;-Wconversion;-Wshadow>"
  "$<$<COMPILE_LANG_AND_ID:CXX,Clang,AppleClang>:-Wno-sign-conversion;-Wno-pass-failed>"
  "$<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-Xcompiler=-Wall>")
if(M3I_WERROR)
  target_compile_options(m3i_build_flags INTERFACE
    "$<$<COMPILE_LANG_AND_ID:CXX,GNU,Clang,AppleClang>:-Werror>"
    "$<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-Werror=all-warnings>")
endif()
if(M3I_NATIVE)
  include(CheckCXXCompilerFlag)
  check_cxx_compiler_flag(-march=native M3I_HAS_MARCH_NATIVE)
  if(M3I_HAS_MARCH_NATIVE)
    target_compile_options(m3i_build_flags INTERFACE
      $<$<COMPILE_LANGUAGE:CXX>:-march=native> $<$<COMPILE_LANG_AND_ID:CUDA,NVIDIA>:-Xcompiler=-march=native>)
  endif()
endif()

add_library(m3i_sanitize INTERFACE)  # alone for third-party code that is built with ours
if(M3I_SANITIZE STREQUAL "address")
  set(sanitize -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(M3I_SANITIZE STREQUAL "fuzzer")  # clang++: with coverage, for the programs of tests/fuzz
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "m3i: M3I_SANITIZE=fuzzer needs clang++; add -DCMAKE_CXX_COMPILER=clang++")
  endif()
  set(sanitize -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
elseif(M3I_SANITIZE STREQUAL "thread")
  set(sanitize -fsanitize=thread)
elseif(M3I_SANITIZE)
  message(FATAL_ERROR "m3i: M3I_SANITIZE=${M3I_SANITIZE} is not one of address, thread, fuzzer")
endif()
if(M3I_SANITIZE)
  if(M3I_CUDA)
    message(FATAL_ERROR "m3i: M3I_SANITIZE is for CPU builds; turn M3I_CUDA off, or use compute-sanitizer on the GPU")
  endif()
  target_compile_options(m3i_sanitize INTERFACE ${sanitize} -g1)
  target_link_options(m3i_sanitize INTERFACE ${sanitize})
endif()
target_link_libraries(m3i_build_flags INTERFACE m3i_sanitize)
