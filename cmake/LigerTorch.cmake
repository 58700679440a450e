# liger::torch from the PyPI wheel, without a CUDA toolkit.
#
# find_package(Torch) of a CUDA build fails where no toolkit is installed, so
# the CPU half is imported directly: libtorch_cpu and libc10 hold the
# dispatcher, autograd and the device-independent API. On a GPU host the
# trainer loads libtorch_cuda at run time (worker/trainer/loop/device.h), so
# one program serves both and a CPU-only process stays small.

set(LIGER_TORCH_DIR "" CACHE PATH "Folder of the Python package torch (default: the venv's)")
if(NOT LIGER_TORCH_DIR)
  file(GLOB torch_candidates ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  if(DEFINED ENV{LIGER_TORCH_DIR})
    set(torch_candidates $ENV{LIGER_TORCH_DIR})
  endif()
  list(GET torch_candidates 0 LIGER_TORCH_DIR)
endif()
if(NOT EXISTS ${LIGER_TORCH_DIR}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "no libtorch in '${LIGER_TORCH_DIR}': run tools/setup, or set LIGER_TORCH_DIR")
endif()
message(STATUS "libtorch: ${LIGER_TORCH_DIR}")

set(LIGER_TORCH_LIB_DIR ${LIGER_TORCH_DIR}/lib)
file(GLOB torch_gomp ${LIGER_TORCH_LIB_DIR}/libgomp*.so*)

add_library(liger_torch INTERFACE)
# -idirafter: torch ships its own protobuf headers; the system's must win.
# clang, which the fuzz targets are built with, has another OpenMP runtime: its loops run on one thread.
target_compile_options(liger_torch INTERFACE
  "SHELL:-idirafter ${LIGER_TORCH_DIR}/include"
  "SHELL:-idirafter ${LIGER_TORCH_DIR}/include/torch/csrc/api/include"
  $<$<CXX_COMPILER_ID:GNU>:-fopenmp> -Wno-unknown-pragmas)
target_compile_definitions(liger_torch INTERFACE USE_C10D_GLOO)
# torch's own OpenMP runtime, so that ATen and our loops share one thread pool.
target_link_libraries(liger_torch INTERFACE
  ${LIGER_TORCH_LIB_DIR}/libtorch_cpu.so ${LIGER_TORCH_LIB_DIR}/libc10.so ${torch_gomp} Threads::Threads)
target_link_options(liger_torch INTERFACE -Wl,--allow-shlib-undefined)
add_library(liger::torch ALIAS liger_torch)

# One precompiled header for every target that uses torch: what nearly all of
# their sources read. Not <torch/torch.h>: g++ instantiates a header's pending
# templates anew in each source: of an otherwise empty one 12 s, of these 6 s.
set(torch_headers <ATen/ATen.h> <torch/csrc/autograd/autograd.h>
  <torch/csrc/autograd/custom_function.h> <torch/library.h> <torch/nn/module.h>)
if(LIGER_SERVICE)
  list(APPEND torch_headers <nlohmann/json.hpp>)
endif()
if(LIGER_BUILD_TESTS)
  list(APPEND torch_headers <gmock/gmock.h>)
endif()
file(GENERATE OUTPUT ${CMAKE_BINARY_DIR}/torch_pch.cpp CONTENT "// Owner of the precompiled torch header.\n")
add_library(liger_torch_pch OBJECT ${CMAKE_BINARY_DIR}/torch_pch.cpp)
target_link_libraries(liger_torch_pch PRIVATE liger_torch)
set_target_properties(liger_torch_pch PROPERTIES UNITY_BUILD OFF)
target_precompile_headers(liger_torch_pch PRIVATE ${torch_headers})
file(STRINGS ${LIGER_TORCH_DIR}/version.py torch_version REGEX "^__version__")
string(REGEX REPLACE ".*'([0-9.]+).*" "\\1" LIGER_TORCH_VERSION "${torch_version}")
# What ccache takes for the header's content (CCACHE_PCH_EXTSUM).
file(CONFIGURE OUTPUT ${CMAKE_BINARY_DIR}/CMakeFiles/liger_torch_pch.dir/cmake_pch.hxx.gch.sum
  CONTENT "@torch_headers@ @torch_version@ @CMAKE_CXX_COMPILER_ID@ @CMAKE_CXX_COMPILER_VERSION@ @CMAKE_BUILD_TYPE@ @LIGER_SANITIZE@\n" @ONLY)
