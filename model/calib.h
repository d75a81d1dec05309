/* A cluster and the calibrated curves of its GPU: which presets apply, and how well each class of
 * cost is known. */
#ifndef MODEL_CALIB_H
#define MODEL_CALIB_H

#include "model/interval.h"
#include "model/prof.h"
#include "model/program.h"

/* Sets c->net and c->curves to the presets that bear hw_net_name and hw_curve_name, leaves NULL
 * what there is none of. False when such a preset is broken, or a cluster file names one that is
 * not there. From then on model/cost prices exchanges by c->net. The links that it was measured on
 * are those of the preset cluster of its name; where there is none, the cluster's own. */
bool calib_cluster(struct hw_cluster *c, struct arena *a, struct err *e);

/* c->net's answer on the links of this cluster. Where they are those that it was measured on, the
 * profile's time as it is; else it changes by wire bytes over the two rates (rate * efficiency) and
 * by the two latencies, is never less than its bytes over the cluster's own link, and is known as a
 * borrowed profile is; gathers and scatters between nodes pass (w-1)/w of their bytes over NVLink.
 * Between nodes the profile's form takes the NIC's rate, and NVLink bounds it as in
 * prof_collective. q->nic_bytes_per_s is set here. */
struct prediction calib_collective(const struct hw_cluster *c, const struct coll_query *q);

/* The profile with what its dense kernels were measured at on this GPU (kern_dense.on) and the
 * fitted curves that its parts name for this GPU (struct kern_curve); a part whose name holds GPU
 * keeps its own numbers where no preset bears that name, any other name must be there: NULL with
 * ERR_INPUT at `at` if not. Lives in `a`. */
const struct kern_profile *calib_kernels(const struct kern_profile *k, const struct hw_cluster *c,
                                         struct err_at at, struct arena *a, struct err *e);

/* 90% half-widths (natural log) of the classes of cost where a phase has none of its own (struct
 * cp_phase). Without a calibrated curve: 0.4, about the spread of data-sheet models against
 * measurements in peers' reports. Kernels by a profile's own numbers: what was measured on the GPU,
 * and 5% in squares because they are a straight share of the peak. Exchanges: from 1 MB on, between
 * nodes the pooled class. */
void calib_half_widths(const struct hw_cluster *c, double half[COST_CLASSES]);

/* What is known of each class of a time made of several phases (struct program_time): doubt over
 * seconds, 0 where the time has none of the class. Two times are compared with the wider one's.
 */
void calib_half(const double *class_s, const double *doubt_s, double half[COST_CLASSES]);
void calib_half_wider(const double *half_a, const double *half_b, double half[COST_CLASSES]);

#endif
