/* What launchers set, as their manuals say: mpirun(1) of Open MPI, srun(1), torchrun's page. */
#include <stdlib.h>
#include <string.h>

#include <gsl/gsl_test.h>

#include "base/launcher.h"

static const char *const names[] = {"OMPI_COMM_WORLD_RANK",
                                    "OMPI_COMM_WORLD_SIZE",
                                    "OMPI_COMM_WORLD_LOCAL_RANK",
                                    "OMPI_COMM_WORLD_LOCAL_SIZE",
                                    "PMI_RANK",
                                    "PMI_SIZE",
                                    "MPI_LOCALRANKID",
                                    "MPI_LOCALNRANKS",
                                    "PMIX_RANK",
                                    "SLURM_PROCID",
                                    "SLURM_NTASKS",
                                    "SLURM_LOCALID",
                                    "SLURM_NODEID",
                                    "SLURM_STEP_NUM_TASKS",
                                    "SLURM_STEP_TASKS_PER_NODE",
                                    "RANK",
                                    "WORLD_SIZE",
                                    "LOCAL_RANK",
                                    "LOCAL_WORLD_SIZE"};

/* "NAME=value NAME=value": the only ones that are set. */
static struct launcher with(const char *environment)
{
    char text[512], *rest = text;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    strcpy(text, environment);
    for (char *word; (word = strtok_r(NULL, " ", &rest));) {
        char *value = strchr(word, '=');
        *value = 0;
        setenv(word, value + 1, 1);
    }
    return launcher_of_process();
}

static void place(const char *environment, const char *name, bool mpi, int rank, int size,
                  int local_rank, int local_size)
{
    struct launcher l = with(environment);
    gsl_test(name ? !l.name || strcmp(l.name, name) != 0 : l.name != NULL, "%s: who", environment);
    gsl_test(l.mpi != mpi, "%s: MPI", environment);
    gsl_test_int(l.rank, rank, "%s: rank", environment);
    gsl_test_int(l.size, size, "%s: size", environment);
    gsl_test_int(l.local_rank, local_rank, "%s: rank on this machine", environment);
    gsl_test_int(l.local_size, local_size, "%s: ranks on this machine", environment);
}

static void each_launcher_is_known(void)
{
    place("", NULL, false, 0, 1, 0, 0);
    place("OMPI_COMM_WORLD_RANK=5 OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=1 "
          "OMPI_COMM_WORLD_LOCAL_SIZE=4 PMIX_RANK=5",
          "mpirun", true, 5, 8, 1, 4);
    place("PMI_RANK=5 PMI_SIZE=8 MPI_LOCALRANKID=1 MPI_LOCALNRANKS=4", "mpiexec", true, 5, 8, 1, 4);
    place("RANK=5 WORLD_SIZE=8 LOCAL_RANK=1 LOCAL_WORLD_SIZE=4", "torchrun", false, 5, 8, 1, 4);
}

static void srun_is_known_with_and_without_pmi(void)
{
    const char *with_pmix = "SLURM_PROCID=9 SLURM_STEP_NUM_TASKS=12 SLURM_LOCALID=1 SLURM_NODEID=2 "
                            "SLURM_STEP_TASKS_PER_NODE=4(x2),3,1 PMIX_RANK=9";
    place(with_pmix, "srun", true, 9, 12, 1, 3);
    place("SLURM_PROCID=9 SLURM_STEP_NUM_TASKS=12 SLURM_LOCALID=1 SLURM_NODEID=1 "
          "SLURM_STEP_TASKS_PER_NODE=4(x3)",
          "srun", false, 9, 12, 1, 4);
    place("SLURM_PROCID=9 SLURM_STEP_NUM_TASKS=12 SLURM_LOCALID=1 PMI_RANK=9 PMI_SIZE=12",
          "mpiexec", true, 9, 12, 1, 0);
    place("SLURM_PROCID=9 SLURM_STEP_NUM_TASKS=12 SLURM_LOCALID=1 SLURM_NODEID=7 "
          "SLURM_STEP_TASKS_PER_NODE=4(x",
          "srun", false, 9, 12, 1, 0);
}

/* In the script itself Slurm sets SLURM_PROCID=0 and SLURM_NTASKS, and no step. */
static void a_batch_script_is_not_launched(void)
{
    place("SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_LOCALID=0 SLURM_NODEID=0", NULL, false, 0, 1, 0, 0);
    place("SLURM_PROCID=0 SLURM_NTASKS=8 SLURM_LOCALID=0 OMPI_COMM_WORLD_RANK=3 "
          "OMPI_COMM_WORLD_SIZE=8 OMPI_COMM_WORLD_LOCAL_RANK=3 OMPI_COMM_WORLD_LOCAL_SIZE=8",
          "mpirun", true, 3, 8, 3, 8);
}

int main(void)
{
    each_launcher_is_known();
    srun_is_known_with_and_without_pmi();
    a_batch_script_is_not_launched();
    return gsl_test_summary();
}
