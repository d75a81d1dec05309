/* What mpirun, srun and torchrun tell a process of its place among those that they started, before
 * any library is asked. */
#ifndef BASE_LAUNCHER_H
#define BASE_LAUNCHER_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

struct launcher {
    const char *name; /* "mpirun", "mpiexec", "srun" or "torchrun"; NULL: nobody launched it */
    bool mpi;         /* it speaks PMI: MPI_Init will find the other processes */
    int rank, size;   /* 0 of 1 for a process that nobody launched */
    int local_rank, local_size; /* on this machine; local_size 0: not said */
};

/* The innermost launcher counts: mpirun within an sbatch script is mpirun. A command of the script
 * itself is nobody's, though Slurm sets SLURM_PROCID and SLURM_NTASKS there too: only srun sets
 * SLURM_STEP_NUM_TASKS (srun(1), output environment variables). */
struct launcher launcher_of_process(void);

#ifdef __cplusplus
}
#endif
#endif
