# Writes OUT with the commit that SOURCE stands at, if that has changed; run with -P at every build.
find_package(Git QUIET)
set(commit unknown)
if(Git_FOUND AND EXISTS ${SOURCE}/.git)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE} describe --always --dirty --exclude=*
    OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    set(commit unknown)
  endif()
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "// Which commit this is.\n#define ESPALIER_COMMIT \"${commit}\"\n")
