# Compile options, ccache, and the three functions with which every folder
# declares its targets. A folder is one library; its link line is its list of
# allowed dependencies, so an include against the arrow does not build.

# Objects are shared between checkouts: paths are hashed relative to the source
# folder, the dependency file stands in for a preprocessor run, and the
# precompiled header is known by what it was made from (LigerTorch.cmake).
find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=true CCACHE_DEPEND=true
      CCACHE_PCH_EXTSUM=true ${CCACHE})
  add_compile_options($<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)
endif()

# For g++ and clang; nvcc has its own words (kernels/CMakeLists.txt).
function(liger_cxx_options)
  foreach(option IN LISTS ARGN)
    add_compile_options($<$<COMPILE_LANGUAGE:C,CXX>:${option}>)
  endforeach()
endfunction()

liger_cxx_options(-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers)
if(LIGER_WERROR)
  liger_cxx_options(-Werror)
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES Clang)
  liger_cxx_options(-Wthread-safety)
else()
  # g++ 12 takes the const reference to an empty struct for a read of its bytes
  # (std::function called with an empty Result); whether it says so depends on
  # what was inlined, and a clean build must not.
  liger_cxx_options(-Wno-maybe-uninitialized)
endif()
if(LIGER_SANITIZE)
  liger_cxx_options(-fsanitize=${LIGER_SANITIZE} -fno-omit-frame-pointer -g1)
  add_link_options(-fsanitize=${LIGER_SANITIZE})
  if(LIGER_SANITIZE MATCHES thread)
    # A map field of Debian's protobuf is smaller than that of its headers under
    # ThreadSanitizer; libstdc++ must go on knowing of it.
    liger_cxx_options(-U__SANITIZE_THREAD__ -D_GLIBCXX_TSAN=1)
  endif()
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

# A relocatable install: libraries are found beside the programs, libtorch by
# the launcher of the programs that need it (worker/trainer/launcher).
set(CMAKE_INSTALL_RPATH "$ORIGIN/../lib;$ORIGIN/../../lib")

# liger_library(NAME srcs... [DEPS targets...] [PRIVATE_DEPS targets...])
# makes target liger_NAME with alias liger::NAME.
function(liger_library name)
  cmake_parse_arguments(ARG "" "" "SRCS;DEPS;PRIVATE_DEPS" ${ARGN})
  if(ARG_SRCS)
    add_library(liger_${name} STATIC ${ARG_SRCS})
    target_include_directories(liger_${name} PUBLIC ${PROJECT_SOURCE_DIR})
    target_link_libraries(liger_${name} PUBLIC ${ARG_DEPS} PRIVATE ${ARG_PRIVATE_DEPS})
    liger_compile_together(liger_${name})
  else()
    add_library(liger_${name} INTERFACE)
    target_include_directories(liger_${name} INTERFACE ${PROJECT_SOURCE_DIR})
    target_link_libraries(liger_${name} INTERFACE ${ARG_DEPS})
  endif()
  add_library(liger::${name} ALIAS liger_${name})
endfunction()

# liger_program(liger-foo SRCS main.cpp DEPS targets... [DESTINATION dir]): a program in bin/,
# installed to DESTINATION (default: bin).
function(liger_program name)
  cmake_parse_arguments(ARG "" "DESTINATION" "SRCS;DEPS" ${ARGN})
  if(NOT ARG_DESTINATION)
    set(ARG_DESTINATION bin)
  endif()
  add_executable(${name} ${ARG_SRCS})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  liger_compile_together(${name})
  if(NOT TARGET programs)
    add_custom_target(programs) # `make programs`: no tests
  endif()
  add_dependencies(programs ${name})
  install(TARGETS ${name} RUNTIME DESTINATION ${ARG_DESTINATION})
endfunction()

# liger_test(name SRCS files... DEPS targets... [LABELS l...] [TIMEOUT s] [ARGS ...])
# One program, one ctest entry. Tests find tests/golden and the programs through
# tests/paths.h.
function(liger_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SRCS;DEPS;LABELS;ARGS" ${ARGN})
  if(NOT LIGER_BUILD_TESTS)
    return()
  endif()
  add_executable(${name} ${ARG_SRCS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} liger::test_paths GTest::gmock GTest::gtest_main)
  liger_compile_together(${name})
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>) # a fifth less to wait for
  add_test(NAME ${name} COMMAND ${name} ${ARG_ARGS})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT})
endfunction()

# What saves compilations from reading the same headers again.
function(liger_compile_together target)
  # g++ takes a source that another includes (CMAKE_UNITY_BUILD) for a header.
  target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  liger_use_torch_pch(${target})
endfunction()

# Targets that depend on liger::torch share one precompiled header.
function(liger_use_torch_pch target)
  get_target_property(deps ${target} LINK_LIBRARIES)
  liger_depends_on_torch(found "${deps}")
  if(found)
    # GCC takes a precompiled header only with the flags it was made with, and
    # programs would get -fPIE where libraries get -fPIC.
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
    target_precompile_headers(${target} REUSE_FROM liger_torch_pch)
  endif()
endfunction()

function(liger_depends_on_torch out deps)
  set(${out} FALSE PARENT_SCOPE)
  foreach(dep IN LISTS deps)
    if(dep STREQUAL "liger::torch" OR dep STREQUAL "liger_torch")
      set(${out} TRUE PARENT_SCOPE)
      return()
    endif()
    if(TARGET ${dep} AND dep MATCHES "^liger")
      get_target_property(inner ${dep} INTERFACE_LINK_LIBRARIES)
      liger_depends_on_torch(inner_found "${inner}")
      if(inner_found)
        set(${out} TRUE PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
endfunction()
