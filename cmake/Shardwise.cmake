# What every target of Shardwise shares: language level, warnings, sanitizers, and the two functions that
# the layers are made with. A part whose library is missing is left out and named by shardwise_report_parts().

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

option(SHARDWISE_WERROR "Treat warnings as errors" OFF)
option(SHARDWISE_SANITIZE "Build with AddressSanitizer and UBSan" OFF)
option(SHARDWISE_COVERAGE "Build for gcov/lcov" OFF)
option(SHARDWISE_FUZZ "Build the libFuzzer targets (clang)" OFF)

find_package(GSL)
find_package(OpenMP COMPONENTS C)
find_package(PkgConfig)
if(PkgConfig_FOUND)
  pkg_check_modules(YAML IMPORTED_TARGET yaml-0.1)
  pkg_check_modules(SIMGRID IMPORTED_TARGET simgrid) # tests and one bench only
endif()

add_library(shardwise_flags INTERFACE)
target_compile_definitions(shardwise_flags INTERFACE _DEFAULT_SOURCE)
target_include_directories(shardwise_flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR})
# -ffp-contract=off: the same input gives the same bytes on machines with and without FMA. Kernels opt back in.
target_compile_options(shardwise_flags INTERFACE -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                       -Wpointer-arith -Wvla -ffp-contract=off)
if(SHARDWISE_WERROR)
  target_compile_options(shardwise_flags INTERFACE -Werror)
endif()
if(SHARDWISE_SANITIZE)
  target_compile_options(shardwise_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
                         -fno-omit-frame-pointer)
  target_link_options(shardwise_flags INTERFACE -fsanitize=address,undefined)
endif()
if(SHARDWISE_FUZZ)
  target_compile_options(shardwise_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(SHARDWISE_COVERAGE)
  target_compile_options(shardwise_flags INTERFACE --coverage -O0)
  target_link_options(shardwise_flags INTERFACE --coverage)
endif()

# shardwise_missing(OUT layer...): the layers of these that are not built here, for want of a library.
function(shardwise_missing out)
  set(missing "")
  foreach(layer ${ARGN})
    if(NOT TARGET sw_${layer})
      list(APPEND missing ${layer})
    endif()
  endforeach()
  set(${out} "${missing}" PARENT_SCOPE)
endfunction()

# shardwise_layer(NAME SOURCES a.c b.c USES layer... LIBS lib...): one static library, sw_NAME.
# A layer that uses a missing one is missing too; so are its tests, benches and fuzz targets.
function(shardwise_layer name)
  cmake_parse_arguments(L "" "" "SOURCES;USES;LIBS" ${ARGN})
  shardwise_missing(missing ${L_USES})
  if(missing)
    shardwise_part("${name}, which uses ${missing}" 0)
    return()
  endif()
  foreach(lib ${L_LIBS})
    if(lib MATCHES "::" AND NOT TARGET ${lib})
      shardwise_part("${name}, which uses ${lib}" 0)
      return()
    endif()
  endforeach()
  add_library(sw_${name} STATIC ${L_SOURCES})
  list(TRANSFORM L_USES PREPEND sw_)
  target_link_libraries(sw_${name} PUBLIC shardwise_flags ${L_USES} ${L_LIBS} m)
endfunction()

# shardwise_test(NAME SOURCES a.c USES layer... LIBS lib...): one program, one CTest test.
function(shardwise_test name)
  cmake_parse_arguments(T "" "" "SOURCES;USES;LIBS;ARGS" ${ARGN})
  shardwise_missing(missing ${T_USES})
  if(missing OR NOT GSL_FOUND) # gsl_test.h is what tests are written with
    shardwise_part("test ${name}" 0)
    return()
  endif()
  string(REPLACE "/" "_" target test_${name})
  add_executable(${target} ${T_SOURCES})
  list(TRANSFORM T_USES PREPEND sw_)
  target_link_libraries(${target} PRIVATE shardwise_flags ${T_USES} ${T_LIBS} GSL::gsl m)
  target_link_libraries(${target} PRIVATE shardwise_flags ${T_USES} ${T_LIBS} m)
  if(GSL_FOUND) # without it tests/check.h has the same functions, so the kernels' tests run on machines that have no GSL
    target_link_libraries(${target} PRIVATE GSL::gsl)
    target_compile_definitions(${target} PRIVATE SHARDWISE_HAVE_GSL)
  endif()
  add_test(NAME ${name} COMMAND ${target} ${T_ARGS} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endfunction()

# shardwise_bench(NAME SOURCES a.c USES layer...): a program that prints ratios; built, never run by CTest.
function(shardwise_bench name)
  cmake_parse_arguments(B "" "" "SOURCES;USES;LIBS" ${ARGN})
  shardwise_missing(missing ${B_USES})
  if(missing)
    shardwise_part("bench ${name}" 0)
    return()
  endif()
  add_executable(bench_${name} ${B_SOURCES})
  list(TRANSFORM B_USES PREPEND sw_)
  target_link_libraries(bench_${name} PRIVATE shardwise_flags ${B_USES} ${B_LIBS} m)
endfunction()

# shardwise_fuzz(NAME SOURCES a.c USES layer...): a libFuzzer target; only in the fuzz preset.
function(shardwise_fuzz name)
  if(SHARDWISE_FUZZ)
    cmake_parse_arguments(F "" "" "SOURCES;USES;LIBS" ${ARGN})
    add_executable(fuzz_${name} ${F_SOURCES})
    list(TRANSFORM F_USES PREPEND sw_)
    target_link_libraries(fuzz_${name} PRIVATE shardwise_flags ${F_USES} ${F_LIBS} m)
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()

# shardwise_part(NAME FOUND): records whether an optional part is built; the summary names each missing one.
function(shardwise_part name) # the second argument may be empty: what find_package leaves behind on a miss
  set(found "${ARGN}")
  set_property(GLOBAL APPEND PROPERTY SHARDWISE_PARTS "${name}=${found}")
endfunction()

function(shardwise_report_parts)
  get_property(parts GLOBAL PROPERTY SHARDWISE_PARTS)
  foreach(part ${parts})
    string(REGEX MATCH "^(.*)=(.*)$" _ "${part}")
    if(CMAKE_MATCH_2)
      message(STATUS "Shardwise part built:   ${CMAKE_MATCH_1}")
    else()
      message(STATUS "Shardwise part missing: ${CMAKE_MATCH_1}")
    endif()
  endforeach()
endfunction()
