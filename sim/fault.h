/* What-ifs on purpose, as a person writes them: slow GPUs, slow or flapping links.
 *
 *   gpu5=0.8               GPU 5 computes at 0.8 of its speed
 *   nic3=0.5               the NIC that GPU 3 uses has half its rate, both ways
 *   nvlink2=0.25           GPU 2's NVLink port has a quarter
 *   nic3=0@10ms-12ms       down from 10 ms to 12 ms
 *   nic3=0@10ms-12ms/50ms  and again every 50 ms, FAULT_REPEATS times: it flaps
 *
 * A list is separated by commas. */
#ifndef SIM_FAULT_H
#define SIM_FAULT_H

#include "sim/play.h"

enum fault_part { FAULT_GPU, FAULT_NIC, FAULT_NVLINK, FAULT_PARTS };

struct fault {
    enum fault_part part;
    int gpu;
    double share;           /* of the usual speed, 0..1; above 0 for GPUs */
    double from_s, until_s; /* INFINITY: to the end */
    double every_s;         /* 0: once */
};

enum { FAULTS_MOST = 1024, FAULT_REPEATS = 1000 };

/* ERR_INPUT at `at`, naming the item. *out lives in `a`. */
bool fault_parse(const char *text, struct err_at at, struct arena *a, struct fault **out,
                 int *count, struct err *e);

/* Fills gpu_speed and faults of *what, in `a`. ERR_INPUT when the topology has no such GPU, or the
 * GPU no such link. */
bool fault_apply(const struct fault *f, int count, const struct topo *t, struct play_what *what,
                 struct arena *a, struct err_at at, struct err *e);

#endif
