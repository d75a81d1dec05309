#!/bin/sh
# mpirun.sh MPIEXEC N PROGRAM ARGS...: more ranks than cores, as root in containers, without leak reports for MPI's own memory.
mpiexec=$1 ranks=$2
shift 2
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_base_warn_component_unused=0 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl=self,vader,tcp
# Where a machine's own name is nowhere known, MPI_Init asks name servers for 10 s, which is more than tests of dead ranks wait.
export RES_OPTIONS='timeout:1 attempts:1'
export ASAN_OPTIONS="detect_leaks=0${ASAN_OPTIONS:+:$ASAN_OPTIONS}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec "$mpiexec" -np "$ranks" "$@"
