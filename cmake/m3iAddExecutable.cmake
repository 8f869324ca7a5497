# Installed with the package, so that users' sources follow M3I_CUDA as m3i's own do.

# Turns the CUDA language on. A macro, not a function: languages are enabled for the calling directory.
macro(m3i_enable_cuda)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit 12.4 REQUIRED)
endmacro()

# Marks a target's C++ sources as CUDA when m3i is built with M3I_CUDA, so that the programs themselves stay .cpp files.
# To be called from the directory that defines the target.
function(m3i_sources_for_device target)
  if(M3I_CUDA)
    get_target_property(sources ${target} SOURCES)
    list(FILTER sources INCLUDE REGEX "\\.(cpp|cc|cxx)$")
    set_source_files_properties(${sources} PROPERTIES LANGUAGE CUDA)
  endif()
endfunction()

# m3i_add_executable(name source...): a program that uses m3i, compiled by nvcc when M3I_CUDA is on, else by the C++
# compiler. Link further libraries with target_link_libraries(name PRIVATE ...).
function(m3i_add_executable name)
  add_executable(${name} ${ARGN})
  target_link_libraries(${name} PRIVATE m3i::m3i)
  m3i_sources_for_device(${name})
endfunction()
