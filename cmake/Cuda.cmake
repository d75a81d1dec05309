# The CUDA toolkit, if it is wanted and here: enables the language and says for which GPUs kernels are compiled.
# SHARDWISE_CUDA_FOUND says whether kernels/cuda is built. Nothing else asks for CUDA.

set(SHARDWISE_CUDA AUTO CACHE STRING "CUDA kernels: ON, OFF or AUTO (where there is a toolkit; never with sanitizers)")
set_property(CACHE SHARDWISE_CUDA PROPERTY STRINGS AUTO ON OFF)
set(SHARDWISE_CUDA_TARGETS "80;90a;100" CACHE STRING "compute capabilities to compile for; those that nvcc lacks are left out")
set(SHARDWISE_CUDA_FOUND 0)

# shardwise_cuda_targets(OUT NVCC): of SHARDWISE_CUDA_TARGETS those that this nvcc knows, as CMAKE_CUDA_ARCHITECTURES
# wants them: machine code only. nvcc lists 90 and means 90a too (since CUDA 12).
function(shardwise_cuda_targets out nvcc)
  execute_process(COMMAND ${nvcc} --list-gpu-code OUTPUT_VARIABLE known ERROR_QUIET)
  set(targets "")
  foreach(target ${SHARDWISE_CUDA_TARGETS})
    string(REGEX REPLACE "[af]$" "" plain ${target})
    if(known MATCHES "sm_${plain}[^0-9]")
      list(APPEND targets ${target}-real)
    else()
      message(STATUS "Shardwise part missing: CUDA kernels for compute capability ${target} (${nvcc} is too old or too new)")
    endif()
  endforeach()
  set(${out} "${targets}" PARENT_SCOPE)
endfunction()

if(SHARDWISE_CUDA STREQUAL "ON" OR (SHARDWISE_CUDA STREQUAL "AUTO" AND NOT SHARDWISE_SANITIZE AND NOT SHARDWISE_COVERAGE
                                    AND NOT SHARDWISE_FUZZ))
  find_program(SHARDWISE_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin
               PATHS /usr/local/cuda/bin /opt/cuda/bin)
  if(SHARDWISE_NVCC)
    shardwise_cuda_targets(CMAKE_CUDA_ARCHITECTURES ${SHARDWISE_NVCC})
  endif()
  if(CMAKE_CUDA_ARCHITECTURES)
    set(ENV{CUDACXX} ${SHARDWISE_NVCC})
    if(SHARDWISE_CUDA STREQUAL "AUTO")
      include(CheckLanguage)
      check_language(CUDA) # nvcc with a host compiler that it takes
    endif()
    if(SHARDWISE_CUDA STREQUAL "ON" OR CMAKE_CUDA_COMPILER)
      set(CMAKE_CUDA_STANDARD 17)
      set(CMAKE_CUDA_STANDARD_REQUIRED ON)
      enable_language(CUDA)
      find_package(CUDAToolkit)
      if(TARGET CUDA::cudart_static)
        set(SHARDWISE_CUDA_FOUND 1)
      endif()
    endif()
  endif()
  if(SHARDWISE_CUDA STREQUAL "ON" AND NOT SHARDWISE_CUDA_FOUND)
    message(FATAL_ERROR "SHARDWISE_CUDA is ON, but there is no nvcc (PATH, CUDACXX, CUDA_HOME or /usr/local/cuda/bin) with "
                        "the CUDA runtime that compiles for one of ${SHARDWISE_CUDA_TARGETS}. AUTO builds without.")
  endif()
endif()
