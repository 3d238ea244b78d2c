# The library, room by room. A file named no_X.cpp stands in for what is absent: exactly one of X and no_X is built.
include(cmake/headers.cmake)

# Headers are included as <espalier/ROOM/...>, in the build tree as when installed: one link per room.
file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/include/espalier)
foreach(room ${ESPALIER_ROOMS})
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${room} ${PROJECT_BINARY_DIR}/include/espalier/${room} SYMBOLIC)
endforeach()
configure_file(cmake/version.h.in ${PROJECT_BINARY_DIR}/include/espalier/version.h @ONLY)

# <espalier/espalier.h> is all of the public ones.
set(umbrella "// All of espalier's public headers: for programs that would rather include one line.\n#pragma once\n")
foreach(header ${public})
  string(APPEND umbrella "#include <espalier/${header}>\n")
endforeach()
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/include/espalier/espalier.h CONTENT "${umbrella}" @ONLY)

set(sources "")
foreach(room ${ESPALIER_ROOMS})
  file(GLOB_RECURSE found CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${room}/*.cpp)
  list(APPEND sources ${found})
endforeach()
function(drop pattern)
  list(FILTER sources EXCLUDE REGEX ${pattern})
  set(sources ${sources} PARENT_SCOPE)
endfunction()
drop("/(core/cuda_plugin|cuda/plugin)\\.cpp$")  # below, where there is a shared library
if(ESPALIER_HAS_CUDA)
  drop("/core/no_cuda\\.cpp$")
  file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cuda/*.cu)
endif()
if(ESPALIER_HAS_ONNX)
  drop("/no_onnx\\.cpp$")
else()
  drop("/onnx\\.cpp$")
endif()
if(ESPALIER_HAS_CAIRO)
  drop("/no_cairo\\.cpp$")
else()
  drop("/cairo\\.cpp$")
endif()
foreach(format PNG JPEG)
  string(TOLOWER ${format} door)
  if(ESPALIER_HAS_${format})
    drop("/no_${door}\\.cpp$")
  else()
    drop("/${door}\\.cpp$")
  endif()
endforeach()
if(dnnl_FOUND AND EXISTS ${PROJECT_SOURCE_DIR}/core/cpu/onednn.cpp)
  drop("/no_onednn\\.cpp$")
else()
  drop("/onednn(_[a-z]+)?\\.cpp$")
endif()

# What every target of ours compiles with: `espalier_options` also reaches those who embed us (a sanitized
# library needs a sanitized program), `espalier_warnings` does not.
add_library(espalier_options INTERFACE)
if(ESPALIER_SANITIZE)
  target_compile_options(espalier_options INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${ESPALIER_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer>)
  target_link_options(espalier_options INTERFACE -fsanitize=${ESPALIER_SANITIZE})
  # A third of the compiler's time: g++ checks every access for these; a null crashes anyway, and the readers are fuzzed
  # with all of them.
  if(ESPALIER_SANITIZE MATCHES "undefined" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(espalier_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-sanitize=null,alignment,vptr>)
  endif()
endif()
set(cxx $<COMPILE_LANGUAGE:CXX>)
add_library(espalier_warnings INTERFACE)
target_compile_options(espalier_warnings INTERFACE
  $<${cxx}:-Wall -Wextra -Wpedantic -Wshadow> $<$<AND:${cxx},$<BOOL:${ESPALIER_WERROR}>>:-Werror>)
if(ESPALIER_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 sees ghosts in instrumented code; the same files pass these warnings in the builds without a sanitizer.
  target_compile_options(espalier_warnings INTERFACE
    $<${cxx}:-Wno-maybe-uninitialized -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread -Wno-restrict>)
endif()

# One set of objects feeds the library that is shipped and the static one that tests look inside.
add_library(espalier_objects OBJECT ${sources})
set_target_properties(espalier_objects PROPERTIES
  CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
target_compile_features(espalier_objects PUBLIC cxx_std_20)
target_include_directories(espalier_objects PUBLIC $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>)
# Same bits everywhere: no fused or reordered arithmetic beyond what a line says, on every x86-64-v3 machine.
target_compile_options(espalier_objects PRIVATE
  -march=x86-64-v3 -ffp-contract=off $<$<CONFIG:Release,RelWithDebInfo>:-O3>)
if(ESPALIER_PRECOMPILE)
  target_precompile_headers(espalier_objects PRIVATE <algorithm> <cmath> <cstring> <filesystem> <functional> <map> <memory>
    <numeric> <set> <sstream> <string> <vector> <espalier/core/io/pth.h> <espalier/core/ops/ops.h> <espalier/nn/module.h>)
endif()
# Called only where the processor has these instructions; the file must hold nothing that another could call. (g++ 12
# takes the undefined operands of its own intrinsics for mistakes.)
set_source_files_properties(core/cpu/int8_vnni.cpp core/cpu/depthwise_vnni.cpp PROPERTIES
  COMPILE_OPTIONS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512vnni;-mprefer-vector-width=512;-Wno-uninitialized;-Wno-maybe-uninitialized")
set_source_files_properties(core/cpu/binary_avx512.cpp PROPERTIES
  COMPILE_OPTIONS "-mavx512f;-mavx512bw;-mavx512vl;-mavx512vpopcntdq;-mprefer-vector-width=512;-Wno-uninitialized;-Wno-maybe-uninitialized")
set_source_files_properties(core/cpu/sparse_avx512.cpp PROPERTIES
  COMPILE_OPTIONS "-mavx512f;-mavx512vl;-mprefer-vector-width=512;-Wno-uninitialized;-Wno-maybe-uninitialized")
set_source_files_properties(core/cpu/int8_vnni.cpp core/cpu/depthwise_vnni.cpp core/cpu/binary_avx512.cpp
  core/cpu/sparse_avx512.cpp core/cpu/optim.cpp core/cpu/dropout.cpp core/cpu/elementwise.cpp core/cpu/batch_norm.cpp
  cuda/emulated.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON)  # other options than the rest; and kernels know no tensors
# What build_info() tells. The commit is looked up at every build, and only that file is compiled for it.
add_custom_target(espalier_commit
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DOUT=${PROJECT_BINARY_DIR}/generated/commit.h
          -P ${PROJECT_SOURCE_DIR}/cmake/commit.cmake
  BYPRODUCTS ${PROJECT_BINARY_DIR}/generated/commit.h)
add_dependencies(espalier_objects espalier_commit)
set(onednn_version none)
set(onnx_version none)
set(cuda_version none)
if(dnnl_FOUND)
  set(onednn_version ${dnnl_VERSION})
endif()
if(ESPALIER_HAS_ONNX)
  set(onnx_version ${ONNX_VERSION})
endif()
if(ESPALIER_HAS_CUDA)
  set(cuda_version ${CUDAToolkit_VERSION})
endif()
set_source_files_properties(core/build_info.cpp PROPERTIES
  INCLUDE_DIRECTORIES ${PROJECT_BINARY_DIR}/generated
  COMPILE_DEFINITIONS "ESPALIER_COMPILER=\"${CMAKE_CXX_COMPILER_ID} ${CMAKE_CXX_COMPILER_VERSION}\";ESPALIER_ONEDNN_VERSION=\"${onednn_version}\";ESPALIER_ONNX_VERSION=\"${onnx_version}\";ESPALIER_CUDA_VERSION=\"${cuda_version}\"")
# Loops of square roots and selections, which are vectorised only where nobody watches errno and traps: same bits.
set_source_files_properties(
  core/cpu/optim.cpp core/cpu/dropout.cpp core/cpu/elementwise.cpp core/cpu/batch_norm.cpp PROPERTIES
  COMPILE_OPTIONS "-fno-math-errno;-fno-trapping-math")

# Header-only libraries are ours alone; the others a program meets again when it links the static library.
set(private_libraries $<BUILD_INTERFACE:Eigen3::Eigen> $<BUILD_INTERFACE:nlohmann_json::nlohmann_json>
  ZLIB::ZLIB Threads::Threads)
if(dnnl_FOUND)
  list(APPEND private_libraries DNNL::dnnl OpenMP::OpenMP_CXX)
endif()
if(ESPALIER_HAS_ONNX)
  list(APPEND private_libraries onnx onnx_proto protobuf::libprotobuf)
endif()
if(ESPALIER_HAS_CAIRO)
  set_source_files_properties(compress/report/cairo.cpp PROPERTIES INCLUDE_DIRECTORIES ${CAIRO_INCLUDE_DIR})
  list(APPEND private_libraries ${CAIRO_LIBRARY})
endif()
foreach(format PNG JPEG)  # by path, so that a program that links the static library needs to find no package
  if(ESPALIER_HAS_${format})
    string(TOLOWER ${format} door)
    set(includes ${${format}_INCLUDE_DIRS})
    list(REMOVE_ITEM includes ${CMAKE_CXX_IMPLICIT_INCLUDE_DIRECTORIES})
    set_source_files_properties(data/${door}.cpp PROPERTIES INCLUDE_DIRECTORIES "${includes}")
    list(APPEND private_libraries ${${format}_LIBRARIES})
  endif()
endforeach()
target_link_libraries(espalier_objects PRIVATE ${private_libraries} espalier_options espalier_warnings)

# The CUDA column: of the shared library a library of its own, which that one opens when it is asked for; static ones
# hold it.
set(cuda_objects "")
if(ESPALIER_HAS_CUDA)
  add_library(espalier_cuda_objects OBJECT ${cuda_sources})
  set_target_properties(espalier_cuda_objects PROPERTIES CUDA_EXTENSIONS ON POSITION_INDEPENDENT_CODE ON
    CUDA_VISIBILITY_PRESET hidden CUDA_RUNTIME_LIBRARY Shared)
  target_include_directories(espalier_cuda_objects PRIVATE ${PROJECT_BINARY_DIR}/include)
  # -std=: CMake 3.25 does not know that nvcc can; CXX_STANDARD would ask it for the same.
  target_compile_options(espalier_cuda_objects PRIVATE -std=c++20 --expt-relaxed-constexpr -Xcompiler=-Wall)
  set(cuda_libraries CUDA::cudart CUDA::cublas CUDA::cublasLt)
  target_link_libraries(espalier_cuda_objects PRIVATE ${cuda_libraries} espalier_options)
  set(cuda_objects $<TARGET_OBJECTS:espalier_cuda_objects>)
endif()
if(ESPALIER_SHARED)
  add_library(espalier SHARED $<TARGET_OBJECTS:espalier_objects>)
else()
  add_library(espalier STATIC $<TARGET_OBJECTS:espalier_objects> ${cuda_objects})
  target_link_libraries(espalier PRIVATE ${cuda_libraries})
endif()
if(ESPALIER_HAS_CUDA AND ESPALIER_SHARED)
  set(version ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  add_library(espalier_cuda SHARED ${cuda_objects} cuda/plugin.cpp)
  target_link_libraries(espalier_cuda PRIVATE espalier ${cuda_libraries} espalier_warnings)
  target_sources(espalier PRIVATE core/cuda_plugin.cpp)
  set_source_files_properties(core/cuda_plugin.cpp PROPERTIES
    COMPILE_DEFINITIONS ESPALIER_CUDA_PLUGIN="libespalier_cuda.so.${version}")
  target_link_libraries(espalier PRIVATE ${CMAKE_DL_LIBS})
  set_target_properties(espalier espalier_cuda PROPERTIES CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON)
  set_target_properties(espalier_cuda PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${version})
endif()
add_library(espalier::espalier ALIAS espalier)
set_target_properties(espalier PROPERTIES
  VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
target_compile_features(espalier PUBLIC cxx_std_20)
target_include_directories(espalier PUBLIC
  $<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include> $<INSTALL_INTERFACE:include>)
target_link_libraries(espalier PRIVATE ${private_libraries} PUBLIC $<BUILD_INTERFACE:espalier_options>)

if(ESPALIER_BUILD_TESTS)
  add_library(espalier_internal STATIC EXCLUDE_FROM_ALL $<TARGET_OBJECTS:espalier_objects> ${cuda_objects})
  target_compile_features(espalier_internal PUBLIC cxx_std_20)
  target_include_directories(espalier_internal PUBLIC ${PROJECT_BINARY_DIR}/include)
  target_link_libraries(espalier_internal PUBLIC ${private_libraries} ${cuda_libraries} espalier_options)
endif()
