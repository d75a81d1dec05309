#include "base/launcher.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* The names of the environment's variables. */
struct words {
    const char *name;
    bool mpi;
    const char *rank, *size, *local_rank, *local_size;
};

static const struct words launchers[] = {
    /* Open MPI */
    {"mpirun", true, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK",
     "OMPI_COMM_WORLD_LOCAL_SIZE"},
    /* MPICH's and Intel's Hydra; srun --mpi=pmi2 sets the first two */
    {"mpiexec", true, "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"},
    {"srun", true, "PMIX_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", NULL},
    {"srun", false, "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", NULL},
    {"torchrun", false, "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"},
};

static int number(const char *name, int otherwise)
{
    const char *text = name ? getenv(name) : NULL;
    return text ? atoi(text) : otherwise;
}

/* Slurm's "8(x3),4": 8 tasks on each of three nodes, 4 on the next. */
static int slurm_tasks_here(void)
{
    const char *at = getenv("SLURM_STEP_TASKS_PER_NODE");
    int node = number("SLURM_NODEID", 0);
    while (at && *at) {
        char *end;
        int tasks = (int)strtol(at, &end, 10), nodes = 1;
        if (strncmp(end, "(x", 2) == 0)
            nodes = (int)strtol(end + 2, &end, 10);
        if (node < nodes)
            return tasks;
        node -= nodes;
        at = strchr(end, ',');
        at = at ? at + 1 : NULL;
    }
    return 0;
}

struct launcher launcher_of_process(void)
{
    for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
        const struct words *w = &launchers[i];
        if (!getenv(w->rank) || !getenv(w->size))
            continue;
        struct launcher l = {.name = w->name,
                             .mpi = w->mpi,
                             .rank = number(w->rank, 0),
                             .size = number(w->size, 1),
                             .local_rank = number(w->local_rank, -1),
                             .local_size = number(w->local_size, 0)};
        if (l.local_rank < 0) /* srun --mpi=pmi2, or all on one machine */
            l.local_rank = number("SLURM_LOCALID", l.rank);
        if (l.local_size < 1)
            l.local_size = slurm_tasks_here();
        return l;
    }
    return (struct launcher){.size = 1};
}
