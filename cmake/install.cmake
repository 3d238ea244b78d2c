# Installing: the library, its public headers room by room, and a package file for find_package(espalier).
# A header is public if it declares something for outside (ESPALIER_API, ESPALIER_KERNEL) or if a public header includes
# it; the others, and what a column keeps to itself (core/cpu, cuda), stay at home.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set_target_properties(espalier PROPERTIES INSTALL_RPATH "$ORIGIN")
install(TARGETS espalier EXPORT espalier-targets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})

if(TARGET espalier_tools)
  install(TARGETS espalier_tools EXPORT espalier-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(FILES examples/tools.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/espalier/tools)
endif()

set(headers "")
foreach(room ${ESPALIER_ROOMS})
  file(GLOB_RECURSE found RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS ${room}/*.h)
  list(APPEND headers ${found})
endforeach()
list(FILTER headers EXCLUDE REGEX "^(core/cpu|cuda)/")
set(public "")
foreach(header ${headers})
  file(STRINGS ${header} declarations REGEX "ESPALIER_(API|KERNEL)")
  if(declarations)
    list(APPEND public ${header})
  endif()
endforeach()
set(unread ${public})
while(unread)
  list(POP_FRONT unread header)
  file(STRINGS ${header} includes REGEX "^#include <espalier/.*>")
  foreach(include ${includes})
    string(REGEX REPLACE "^#include <espalier/(.*)>.*" "\\1" included "${include}")
    if(included IN_LIST headers AND NOT included IN_LIST public)
      list(APPEND public ${included})
      list(APPEND unread ${included})
    endif()
  endforeach()
endwhile()
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
