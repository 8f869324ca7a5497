# Install rules: headers, find_package(m3i), pkg-config.

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/m3i)

install(DIRECTORY include/m3i DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp")
set(targets m3i)
foreach(part m3i_nifti m3i_curl m3i_mpi m3i_compiled m3i_api)
  if(TARGET ${part})
    list(APPEND targets ${part})
  endif()
endforeach()
install(TARGETS ${targets} EXPORT m3iTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(level IN LISTS M3I_LEVELS)  # for the loader alone: nothing links them
  install(TARGETS m3i_compiled_${level} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/glibc-hwcaps/${level} NAMELINK_SKIP)
endforeach()
install(EXPORT m3iTargets NAMESPACE m3i:: DESTINATION ${package_dir})

configure_package_config_file(cmake/m3iConfig.cmake.in m3iConfig.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(m3iConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/m3iConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/m3iConfigVersion.cmake
              cmake/m3iAddExecutable.cmake DESTINATION ${package_dir})

# pkg-config serves C++ compilers, so it always describes the CPU library. Its prefix follows the file, wherever moved.
set(pc_requires "")
if(nlohmann_json_FOUND)
  set(pc_requires nlohmann_json)
endif()
configure_file(cmake/m3i.pc.in m3i.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/m3i.pc DESTINATION ${CMAKE_INSTALL_DATADIR}/pkgconfig)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/m3i)
