# Installing: the library, its public headers room by room, and a package file for find_package(espalier).
# What a column keeps to itself (core/cpu, cuda) stays at home.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set_target_properties(espalier PROPERTIES INSTALL_RPATH "$ORIGIN")
install(TARGETS espalier EXPORT espalier-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(room ${ESPALIER_ROOMS})
  if(NOT room STREQUAL "cuda")
    install(DIRECTORY ${room} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/espalier
      FILES_MATCHING PATTERN "*.h" PATTERN "core/cpu" EXCLUDE)
  endif()
endforeach()
install(FILES ${PROJECT_BINARY_DIR}/include/espalier/version.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/espalier)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/espalier)
install(EXPORT espalier-targets NAMESPACE espalier:: DESTINATION ${package})
configure_package_config_file(cmake/espalier-config.cmake.in ${PROJECT_BINARY_DIR}/espalier-config.cmake
  INSTALL_DESTINATION ${package} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/espalier-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/espalier-config.cmake ${PROJECT_BINARY_DIR}/espalier-config-version.cmake
  DESTINATION ${package})
