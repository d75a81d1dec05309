/* A cluster and the calibrated curves of its GPU: which presets apply, and how well each class of
 * cost is known. */
#ifndef MODEL_CALIB_H
#define MODEL_CALIB_H

#include "model/interval.h"
#include "model/prof.h"
#include "model/program.h"

/* Sets c->net and c->curves to the presets that bear the GPU's name, leaves NULL what there is none
 * of. False only when such a preset is broken. From then on model/cost prices exchanges by c->net.
 */
bool calib_cluster(struct hw_cluster *c, struct arena *a, struct err *e);

/* 90% half-widths (natural log) of the classes of cost, for interval_sum and interval_tie. Without
 * a calibrated curve: 0.4, about the spread of data-sheet models against measurements in peers'
 * reports. Kernels: what was measured, and 5% in squares because the planner's kernel profile is a
 * straight share of the peak. Exchanges: from 1 MB on, between nodes the pooled class. */
void calib_half_widths(const struct hw_cluster *c, double half[COST_CLASSES]);

#endif
