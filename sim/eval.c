#include "sim/eval.h"

#include <math.h>

/* Sums of one rank over a program: own work, exchange that nothing hides, waiting for peers. */
static void rank_times(const struct cp_program *p, const struct cp_conf *conf, const struct step *s,
                       const struct play_result *r, struct program_time *t)
{
    for (int i = 0; i < p->phase_count; i++)
        for (int k = 0; k < p->ranks; k++) {
            const struct step_span *sp = &s->spans[i * p->ranks + k];
            const struct cp_phase *ph = &p->phases[i];
            if (sp->first < 0)
                continue;
            bool waits = ph->kind != PHASE_COMPUTE && ph->kind != PHASE_RING;
            sim_time ready = r->begin_at[sp->first],
                     from = waits ? r->begin_at[r->gate[sp->first]] : ready;
            double busy = sim_seconds(r->end_at[sp->last] - from), wait = sim_seconds(from - ready);
            double compute = ph->kind == PHASE_COMPUTE ? busy
                             : ph->kind == PHASE_RING  ? conf->seq_groups * ph->seconds[k]
                                                       : 0;
            t->compute_s[k] += compute;
            t->comm_s[k] += fmax(0, busy - compute);
            t->wait_s[k] += wait;
            t->phase[i].busy_max_s = fmax(t->phase[i].busy_max_s, busy);
            t->phase[i].busy_mean_s += busy / p->ranks;
            t->phase[i].wait_max_s = fmax(t->phase[i].wait_max_s, wait);
        }
}

static void critical_times(const struct cp_program *p, const struct step *s,
                           const struct play_result *r, struct program_time *t,
                           struct arena *scratch)
{
    int n = p->phase_count;
    double *critical = ARENA_ARRAY(scratch, double, s->label_count);
    play_critical(s->graph, r, critical, s->label_count);
    for (int i = 0; i < n; i++) {
        const struct cp_phase *ph = &p->phases[i];
        t->phase[i].critical_s = critical[i] + critical[n + i];
        t->pass_s[ph->pass] += t->phase[i].critical_s;
        t->class_s[ph->cost] += critical[i];
        t->class_s[CLASS_P2P] += critical[n + i];
        t->doubt_s[ph->cost] += critical[i] * ph->half;
        t->doubt_s[CLASS_P2P] += critical[n + i] * p->half[CLASS_P2P];
        t->outside_s += ph->outside ? critical[i] : 0;
    }
    t->pass_s[PASS_FORWARD] +=
        critical[2 * n]; /* host syncs; their class is what they wait to place */
    t->class_s[CLASS_SELECT] += critical[2 * n];
    t->doubt_s[CLASS_SELECT] += critical[2 * n] * p->half[CLASS_SELECT];
    t->total_s = sim_seconds(r->end);
}

static bool sim_block(const struct plan_eval *self, const struct cp_case *c, int block,
                      const struct cp_conf *conf, struct program_time *out, struct arena *a,
                      struct arena *scratch, struct err *e)
{
    struct sim_options usual = sim_options_default();
    const struct sim_options *o = self->data ? self->data : &usual;
    struct cp_program p = cp_program_of(c, block, conf, scratch);
    struct step s;
    struct play_result r;
    struct play_what what = {
        .sm_share = o->sm_share, .comm_waits = o->comm_waits, .merge = o->merge};
    struct err_at at = err_at_name("--eval sim");
    if (!step_of_program(&p, conf, c->cluster, o, &s, scratch, e) ||
        !play_run(s.graph, s.topo, &what, &r, scratch, at, e))
        return false;
    struct program_time t = {.phase_count = p.phase_count,
                             .phase = ARENA_ARRAY(a, struct phase_time, p.phase_count),
                             .compute_s = ARENA_ARRAY(a, double, p.ranks),
                             .comm_s = ARENA_ARRAY(a, double, p.ranks),
                             .wait_s = ARENA_ARRAY(a, double, p.ranks)};
    rank_times(&p, conf, &s, &r, &t);
    critical_times(&p, &s, &r, &t, scratch);
    *out = t;
    return true;
}

struct plan_eval sim_eval(const struct sim_options *o)
{
    return (struct plan_eval){.name = "sim", .data = o, .block = sim_block};
}
