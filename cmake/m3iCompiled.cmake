# m3i::compiled, the slowest templates, compiled once: a static library; or, with BUILD_SHARED_LIBS, a shared one, whose
# loops a program can get for each processor. Unless M3I_NATIVE builds it for this machine's alone, there is a library
# for each level of x86-64 beside the plain one, in glibc-hwcaps/<level>/, and the loader of glibc 2.33 or newer takes
# the best that the processor runs. Programs are linked with the plain one and need not know.

# The levels that the compiler and the C library know.
function(m3i_find_levels levels)
  set(found "")
  if(BUILD_SHARED_LIBS AND NOT M3I_NATIVE AND NOT M3I_CUDA AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    include(CheckCXXSourceCompiles)
    include(CheckCXXCompilerFlag)
    check_cxx_source_compiles("#include <features.h>
      #if !defined(__x86_64__) || !__GLIBC_PREREQ(2, 33)
      #error
      #endif
      int main() {}" M3I_HAS_GLIBC_HWCAPS)
    foreach(level x86-64-v3 x86-64-v4)
      check_cxx_compiler_flag(-march=${level} M3I_HAS_${level})
      if(M3I_HAS_GLIBC_HWCAPS AND M3I_HAS_${level})
        list(APPEND found ${level})
      endif()
    endforeach()
  endif()
  set(${levels} ${found} PARENT_SCOPE)
endfunction()

set(exclude EXCLUDE_FROM_ALL)
if(M3I_INSTALL)
  set(exclude "")
endif()

# A glob, so that a source of further instances needs no line here.
file(GLOB compiled_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/compiled*.cpp)

# The library's functions call each other, never those of the same name that the program compiled for less; variables
# (the pool, the threads) stay one for both.
function(m3i_add_compiled target folder)
  add_library(${target} ${exclude} ${compiled_sources})
  target_link_libraries(${target} PUBLIC m3i PRIVATE $<BUILD_INTERFACE:m3i_build_flags>)
  target_link_options(${target} PRIVATE $<$<PLATFORM_ID:Linux>:-Wl,-Bsymbolic-functions>)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME m3i_compiled POSITION_INDEPENDENT_CODE ON
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib/${folder})
  m3i_sources_for_device(${target})
endfunction()

m3i_add_compiled(m3i_compiled "")
add_library(m3i::compiled ALIAS m3i_compiled)
set_target_properties(m3i_compiled PROPERTIES EXPORT_NAME compiled)
target_compile_definitions(m3i_compiled INTERFACE M3I_COMPILED=1)

m3i_find_levels(M3I_LEVELS)
foreach(level IN LISTS M3I_LEVELS)
  m3i_add_compiled(m3i_compiled_${level} glibc-hwcaps/${level})
  target_compile_options(m3i_compiled_${level} PRIVATE -march=${level})
  add_dependencies(m3i_compiled m3i_compiled_${level})
endforeach()
