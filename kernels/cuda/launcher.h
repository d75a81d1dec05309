/* What mpirun, srun and torchrun tell a process of its place among those that they started. */
#ifndef KERNELS_CUDA_LAUNCHER_H
#define KERNELS_CUDA_LAUNCHER_H

#include <stdlib.h>

/* Rank, number of ranks, and rank on this machine: 0, 1 and 0 for a process that nobody launched.
 */
static inline void launcher_place(int *rank, int *size, int *local)
{
    static const struct {
        const char *rank, *size, *local;
    } launchers[] = {
        {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
        {"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
        {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"},
        {"RANK", "WORLD_SIZE", "LOCAL_RANK"},
    };
    *rank = 0, *size = 1, *local = 0;
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        const char *r = getenv(launchers[i].rank), *n = getenv(launchers[i].size),
                   *l = getenv(launchers[i].local);
        if (!r || !n)
            continue;
        *rank = atoi(r), *size = atoi(n);
        *local = l ? atoi(l) : *rank;
        return;
    }
}

#endif
