/* SimGrid set to the same fluid model as sim/net.h: no TCP window or slow start, no cross traffic,
 * exact bandwidths. Tests and benches only; one run a process (SimGrid keeps its state in globals).
 */
#ifndef TESTS_SIM_SIMGRID_H
#define TESTS_SIM_SIMGRID_H

#include <stdio.h>

struct sg_flow {
    int links[8], hops;
    double start_s, bytes;
    double end_s; /* filled in */
};

/* Runs flows over links of the given rates; each flow has two hosts of its own. */
void sg_run_flows(const char *program, const double *rate, int links, struct sg_flow *flows,
                  int count);

/* Runs an all-to-all of ranks on servers of `per` GPUs, one process a rank, all messages posted at
 * once: port rates `near` inside a server and `far` between servers. Returns the simulated end in
 * seconds; *cpu_s is the CPU time after the platform is loaded. */
double sg_run_alltoall(const char *program, int ranks, int per, double near, double far,
                       double (*size)(int from, int to, int ranks), double *cpu_s);

#endif
