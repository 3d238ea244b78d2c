# Installing: the library, its headers by room, and a package file for find_package(espalier).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
