# Imports liger::kernels (libliger_kernels.so and its headers). The program brings libtorch:
# find_package(Torch), or LIGER_TORCH_DIR set to the folder of the Python package torch. It
# must be the version that the library was built against, as for any PyTorch extension.
get_filename_component(_liger_prefix "${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)

if(NOT TARGET liger::kernels)
  add_library(liger::kernels SHARED IMPORTED)
  set_target_properties(liger::kernels PROPERTIES
    IMPORTED_LOCATION "${_liger_prefix}/lib/libliger_kernels.so"
    INTERFACE_COMPILE_FEATURES cxx_std_20
    INTERFACE_INCLUDE_DIRECTORIES "${_liger_prefix}/include")
  if(TARGET torch)
    target_link_libraries(liger::kernels INTERFACE torch)
  elseif(LIGER_TORCH_DIR)
    target_include_directories(liger::kernels INTERFACE
      "${LIGER_TORCH_DIR}/include" "${LIGER_TORCH_DIR}/include/torch/csrc/api/include")
    target_link_libraries(liger::kernels INTERFACE
      "${LIGER_TORCH_DIR}/lib/libtorch_cpu.so" "${LIGER_TORCH_DIR}/lib/libc10.so")
    target_link_options(liger::kernels INTERFACE
      "-Wl,-rpath,${LIGER_TORCH_DIR}/lib" -Wl,--allow-shlib-undefined)
  else()
    set(LigerKernels_FOUND FALSE)
    set(LigerKernels_NOT_FOUND_MESSAGE
      "libtorch is not known: call find_package(Torch) first, or set LIGER_TORCH_DIR")
  endif()
endif()
unset(_liger_prefix)
