# liger::arrow_cpp: Arrow C++ and Parquet from the PyPI wheel pyarrow.
#
# The wheel has no CMake files and its libraries have only their full names
# (libarrow.so.2600), so they are linked by path. Only the module liger_arrow
# links them (worker/trainer/data/arrow_module.h); installed, it finds them
# through the launcher, as the trainer finds libtorch.

set(LIGER_PYARROW_DIR "" CACHE PATH "Folder of the Python package pyarrow (default: the one beside torch)")
if(NOT LIGER_PYARROW_DIR)
  get_filename_component(LIGER_PYARROW_DIR ${LIGER_TORCH_DIR}/../pyarrow ABSOLUTE)
endif()
file(GLOB arrow_so ${LIGER_PYARROW_DIR}/libarrow.so.*)
file(GLOB parquet_so ${LIGER_PYARROW_DIR}/libparquet.so.*)
if(NOT arrow_so OR NOT parquet_so)
  message(FATAL_ERROR "no Arrow C++ in '${LIGER_PYARROW_DIR}': run tools/setup, or set LIGER_PYARROW_DIR")
endif()
file(STRINGS ${LIGER_PYARROW_DIR}/_generated_version.py pyarrow_version REGEX "^(__version__|version) =|= version = ")
string(REGEX REPLACE ".*'([0-9.]+).*" "\\1" LIGER_PYARROW_VERSION "${pyarrow_version}")
message(STATUS "Arrow C++: ${LIGER_PYARROW_DIR} (${LIGER_PYARROW_VERSION})")

add_library(liger_arrow_cpp INTERFACE)
target_include_directories(liger_arrow_cpp SYSTEM INTERFACE ${LIGER_PYARROW_DIR}/include)
target_link_libraries(liger_arrow_cpp INTERFACE ${arrow_so} ${parquet_so})
target_link_options(liger_arrow_cpp INTERFACE -Wl,--allow-shlib-undefined)
add_library(liger::arrow_cpp ALIAS liger_arrow_cpp)
