# Installing: the library, its public headers room by room, and a package file for find_package(espalier).
# Which headers are public is said in headers.cmake.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set_target_properties(espalier PROPERTIES INSTALL_RPATH "$ORIGIN")
if(TARGET espalier_cuda)  # opened, not linked: the package does not name it
  set_target_properties(espalier_cuda PROPERTIES INSTALL_RPATH "$ORIGIN")
  install(TARGETS espalier_cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} NAMELINK_SKIP)
endif()
install(TARGETS espalier EXPORT espalier-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

if(TARGET espalier_program)
  set_target_properties(espalier_program PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS espalier_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(FILES examples/completion.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME espalier)
endif()
if(TARGET espalier_tools)
  install(TARGETS espalier_tools EXPORT espalier-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(FILES examples/tools.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/espalier/tools)
endif()

foreach(header ${public})
  get_filename_component(folder ${header} DIRECTORY)
  install(FILES ${header} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/espalier/${folder})
endforeach()
install(FILES ${PROJECT_BINARY_DIR}/include/espalier/version.h ${PROJECT_BINARY_DIR}/include/espalier/espalier.h
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/espalier)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/espalier)
install(EXPORT espalier-targets NAMESPACE espalier:: DESTINATION ${package})
configure_package_config_file(cmake/espalier-config.cmake.in ${PROJECT_BINARY_DIR}/espalier-config.cmake
  INSTALL_DESTINATION ${package} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/espalier-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/espalier-config.cmake ${PROJECT_BINARY_DIR}/espalier-config-version.cmake
  DESTINATION ${package})
