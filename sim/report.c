/* From the times of tasks to the lines of a report. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/step.h"

static void rows_add(const struct step *s, const struct play_result *r, struct step_row *rows,
                     struct arena *scratch)
{
    size_t cells = (size_t)s->label_count * (size_t)s->gpus;
    double *busy = ARENA_ARRAY(scratch, double, cells), *wait = ARENA_ARRAY(scratch, double, cells);
    for (int i = 0; i < play_tasks(s->graph); i++) {
        const struct play_task *t = play_task(s->graph, i);
        size_t cell = (size_t)t->phase * (size_t)s->gpus + (size_t)t->gpu;
        sim_time from = t->kind == PLAY_MEMBER ? r->begin_at[r->gate[i]] : r->begin_at[i];
        busy[cell] += sim_seconds(r->end_at[i] - from);
        wait[cell] += sim_seconds(from - r->begin_at[i]);
    }
    for (int l = 0; l < s->label_count; l++)
        for (int g = 0; g < s->gpus; g++) {
            size_t cell = (size_t)l * (size_t)s->gpus + (size_t)g;
            rows[l].busy_max_s = fmax(rows[l].busy_max_s, busy[cell]);
            rows[l].busy_mean_s += busy[cell] / s->gpus;
            rows[l].wait_max_s = fmax(rows[l].wait_max_s, wait[cell]);
        }
}

static struct step_link link_of(const struct step *s, const struct play_result *r, int edge)
{
    double busy_s = r->carried[edge] / s->topo->edges[edge].bytes_per_s;
    return (struct step_link){edge, r->carried[edge], busy_s / sim_seconds(r->end)};
}

const struct step_link *step_links(const struct step *s, const struct play_result *r, int *count,
                                   struct arena *a)
{
    struct step_link *links = ARENA_ARRAY(a, struct step_link, s->topo->edge_count + 1);
    *count = 0;
    for (int i = 0; i < s->topo->edge_count; i++)
        if (r->carried[i] > 0)
            links[(*count)++] = link_of(s, r, i);
    return links;
}

/* The fullest edge of each pair of kinds of ends. */
static int links_add(const struct step *s, const struct play_result *r, struct step_link *links)
{
    int best[TOPO_KINDS * TOPO_KINDS], count = 0;
    for (int i = 0; i < TOPO_KINDS * TOPO_KINDS; i++)
        best[i] = -1;
    for (int i = 0; i < s->topo->edge_count; i++) {
        const struct topo_edge *g = &s->topo->edges[i];
        int kind = (int)(s->topo->nodes[g->from].kind * TOPO_KINDS + s->topo->nodes[g->to].kind);
        double share = r->carried[i] / g->bytes_per_s;
        if (r->carried[i] > 0 &&
            (best[kind] < 0 ||
             share > r->carried[best[kind]] / s->topo->edges[best[kind]].bytes_per_s))
            best[kind] = i;
    }
    for (int i = 0; i < TOPO_KINDS * TOPO_KINDS; i++)
        if (best[i] >= 0)
            links[count++] = link_of(s, r, best[i]);
    return count;
}

struct step_report step_report(const struct step *s, const struct play_result *r, struct arena *a)
{
    struct arena *scratch = arena_new();
    struct step_report out = {.total_s = sim_seconds(r->end),
                              .rows = ARENA_ARRAY(a, struct step_row, s->label_count),
                              .links = ARENA_ARRAY(a, struct step_link, TOPO_KINDS * TOPO_KINDS)};
    double *critical = ARENA_ARRAY(scratch, double, s->label_count);
    rows_add(s, r, out.rows, scratch);
    play_critical(s->graph, r, critical, s->label_count);
    for (int l = 0; l < s->label_count; l++) {
        out.rows[l].critical_s = critical[l];
        *(s->labels[l].exchange ? &out.exposed_s : &out.compute_critical_s) += critical[l];
        if (critical[l] > critical[out.bottleneck])
            out.bottleneck = l;
    }
    out.link_count = links_add(s, r, out.links);
    arena_free(scratch);
    return out;
}

bool step_runs(const struct step *s, const struct play_what *what, int runs, double *seconds,
               struct err_at at, struct err *e)
{
    bool ok = true;
#pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < runs; i++) {
        struct arena *a = arena_new();
        struct play_what mine = *what;
        struct play_result r;
        struct err failed = {0};
        mine.run = (uint64_t)i;
        bool ran = play_run(s->graph, s->topo, &mine, &r, a, at, &failed);
        seconds[i] = ran ? sim_seconds(r.end) : NAN;
        if (!ran) {
#pragma omp critical
            {
                ok = false;
                *e = failed; /* all runs fail alike: a link that stays down */
            }
        }
        arena_free(a);
    }
    return ok;
}

double step_quantile(const double *sorted, int count, double q)
{
    double at = q * (count - 1);
    int low = (int)floor(at), high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}
