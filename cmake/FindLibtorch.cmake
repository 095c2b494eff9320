# Finds libtorch by its headers and libraries alone, and defines the target Libtorch::Libtorch.
#
# TorchConfig.cmake is not used: the one that a CUDA wheel ships refuses to configure without a CUDA
# toolkit, although linking against the wheel needs none. One path for every libtorch:
#   * an existing libtorch: its prefix in CMAKE_PREFIX_PATH;
#   * the PyPI wheel in the project's .venv (scripts/quickstart makes it).
file(GLOB _libtorch_wheels ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
find_path(Libtorch_INCLUDE_DIR NAMES torch/headeronly/version.h HINTS ${_libtorch_wheels} PATH_SUFFIXES include)
get_filename_component(_libtorch_root "${Libtorch_INCLUDE_DIR}" DIRECTORY)
foreach(_library c10 torch_cpu torch)
  find_library(Libtorch_${_library}_LIBRARY NAMES ${_library} HINTS ${_libtorch_root}/lib NO_DEFAULT_PATH)
endforeach()
foreach(_library c10_cuda torch_cuda)  # present in CUDA builds only
  find_library(Libtorch_${_library}_LIBRARY NAMES ${_library} HINTS ${_libtorch_root}/lib NO_DEFAULT_PATH)
endforeach()

if(Libtorch_INCLUDE_DIR)
  file(READ ${Libtorch_INCLUDE_DIR}/torch/headeronly/version.h _version_header)
  foreach(_part MAJOR MINOR PATCH)
    string(REGEX MATCH "#define TORCH_VERSION_${_part} ([0-9]+)" _ "${_version_header}")
    list(APPEND _version ${CMAKE_MATCH_1})
  endforeach()
  list(JOIN _version "." Libtorch_VERSION)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_INCLUDE_DIR Libtorch_c10_LIBRARY Libtorch_torch_cpu_LIBRARY Libtorch_torch_LIBRARY
  VERSION_VAR Libtorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/quickstart, or pass -DCMAKE_PREFIX_PATH=<libtorch or site-packages/torch>")

if(Libtorch_FOUND AND NOT TARGET Libtorch::Libtorch)
  add_library(Libtorch::Libtorch INTERFACE IMPORTED)
  set(_libraries ${Libtorch_torch_LIBRARY} ${Libtorch_torch_cpu_LIBRARY} ${Libtorch_c10_LIBRARY})
  set(Libtorch_CUDA OFF)
  if(Libtorch_torch_cuda_LIBRARY AND Libtorch_c10_cuda_LIBRARY)
    set(Libtorch_CUDA ON)
    # Nothing of ours refers to libtorch_cuda by symbol; it registers its kernels when it is loaded.
    list(APPEND _libraries -Wl,--push-state,--no-as-needed ${Libtorch_torch_cuda_LIBRARY}
         ${Libtorch_c10_cuda_LIBRARY} -Wl,--pop-state)
    file(GLOB _cuda_library_dirs ${_libtorch_root}/../nvidia/*/lib)
    foreach(_dir ${_cuda_library_dirs})  # the wheel's own CUDA libraries, needed at link time
      target_link_options(Libtorch::Libtorch INTERFACE -Wl,-rpath-link,${_dir})
    endforeach()
  endif()
  target_include_directories(Libtorch::Libtorch SYSTEM INTERFACE
    ${Libtorch_INCLUDE_DIR} ${Libtorch_INCLUDE_DIR}/torch/csrc/api/include)
  target_link_libraries(Libtorch::Libtorch INTERFACE ${_libraries})
endif()
# The OpenMP runtime that libtorch brings along; a second one would start threads of its own.
file(GLOB Libtorch_OPENMP_LIBRARY ${_libtorch_root}/lib/libgomp*.so*)
mark_as_advanced(Libtorch_INCLUDE_DIR)
