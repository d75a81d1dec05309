/* A played step as a trace-event file (Chrome's JSON format), which Perfetto (ui.perfetto.dev) and
 * chrome://tracing open: a process for each GPU; in it a track for each lane and as many tracks of
 * exchanges as run at once; named phases; an arrow from the member that came last to each member it
 * held up; and a counter track for each link that was watched, with the share of its rate in use.
 */
#ifndef SIM_TIMELINE_H
#define SIM_TIMELINE_H

#include <stdio.h>

#include "base/prov.h"
#include "sim/step.h"

/* Times in microseconds, as the format wants. `watch` is that of the play; `prov` may be NULL. At
 * most `gpus` GPUs are written (0: all). */
void timeline_write(const struct step *s, const struct play_result *r, const int *watch,
                    const struct prov *prov, int gpus, FILE *out);

#endif
