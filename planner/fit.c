#include "planner/fit.h"

#include <math.h>
#include <stdio.h>

#include "base/qty.h"
#include "planner/batch.h"

const char *const fit_verdict_names[] = {"yes", "slow", "memory", "impossible", NULL};

#define TIME(s)   qty_text((s), QTY_SECONDS, QTY_BUF)
#define BYTES(b)  qty_text((b), QTY_BYTES, QTY_BUF)
#define NUMBER(n) qty_text((n), QTY_NUMBER, QTY_BUF)

double fit_short(const struct plan_fit *f)
{
    return f->memory.total - f->memory_limit;
}

/* ---- limits on time ---- */

/* The time that must keep the limit, and the throughput at that time. */
static double judged_s(const struct degree_row *d, const struct plan_limits *l)
{
    return l->sure ? d->step.high_s : d->step_s;
}

static double judged_rate(const struct degree_row *d, const struct plan_limits *l)
{
    return d->samples_per_s * d->step_s / judged_s(d, l);
}

static bool keeps_step(const struct degree_row *d, const struct plan_limits *l)
{
    return l->step_s <= 0 || judged_s(d, l) <= l->step_s;
}

static bool keeps(const struct degree_row *d, const struct plan_limits *l)
{
    return d->fits && keeps_step(d, l) && judged_rate(d, l) >= l->samples_per_s;
}

/* The first in the order that plan_fit's header gives; NULL when nothing fits. */
static const struct degree_row *choose(const struct plan_found *f, const struct plan_limits *l)
{
    const struct degree_row *best = NULL;
    for (int i = 0; i < f->degree_count; i++) {
        const struct degree_row *d = &f->degrees[i];
        bool kept = keeps(d, l), had = best && keeps(best, l);
        if (!d->fits)
            continue;
        if (!best || kept != had)
            best = !best || kept ? d : best;
        else if (!kept && l->step_s > 0)
            best = d->step_s < best->step_s * (1 - 1e-12) ? d : best;
        else if (d->samples_per_s > best->samples_per_s * (1 + 1e-12))
            best = d;
    }
    return best;
}

static void say_slow(const struct degree_row *d, const struct plan_limits *l, struct plan_fit *out)
{
    const char *where = l->sure ? " at the slow end of the 90% interval" : "";
    if (!keeps_step(d, l))
        snprintf(out->reason, sizeof out->reason, "a step of %s%s is over %s", TIME(judged_s(d, l)),
                 where, TIME(l->step_s));
    else
        snprintf(out->reason, sizeof out->reason, "%s samples/s%s are under %s",
                 NUMBER(judged_rate(d, l)), where, NUMBER(l->samples_per_s));
}

/* ---- what was found ---- */

static void take_slow_class(const struct degree_row *d, struct plan_fit *out)
{
    for (int k = 0; k < COST_CLASSES; k++)
        if (d->class_s[k] > d->class_s[out->slow])
            out->slow = (enum cost_class)k;
    out->slow_share = d->class_s[out->slow] / d->step_s;
}

static void take_plan(const struct plan *p, struct plan_fit *out)
{
    int slowest = 0;
    for (int b = 0; b < p->block_count; b++) {
        out->sparse_blocks += p->blocks[b].conf.sparse;
        if (p->blocks[b].time.total_s > p->blocks[slowest].time.total_s)
            slowest = b;
    }
    out->conf = p->blocks[slowest].conf;
}

/* The plan of the chosen degree: the found one, or a search of that degree alone. */
static bool take_degree(const struct plan_request *r, const struct plan_found *f,
                        const struct degree_row *d, struct plan_fit *out, struct arena *a,
                        struct err *e)
{
    struct plan_request one = *r;
    struct plan_found found = *f;
    one.cp = d->cp;
    if (f->plan->cp != d->cp && !plan_search(&one, &found, a, e))
        return false;
    out->cp = d->cp;
    out->replicas = d->replicas;
    out->passes = plan_passes(r, d->replicas);
    out->memory = d->memory;
    out->step = d->step;
    out->samples_per_s = d->samples_per_s;
    take_slow_class(d, out);
    take_plan(found.plan, out);
    return true;
}

/* ---- nothing fits ---- */

/* The block that ended the search of one degree, if memory did. */
static void take_nearest(const struct plan_found *f, int cp, int replicas, struct plan_fit *out)
{
    for (int b = 0; b < f->plan->block_count; b++) {
        const struct plan_compared *c = &f->compared[b];
        if (c->tried == 0 || c->count > 0)
            continue;
        if (out->cp == 0 || c->nearest.memory.total < out->memory.total) {
            out->cp = cp;
            out->replicas = replicas;
            out->memory = c->nearest.memory;
            out->memory.block = b;
            out->conf = c->nearest.conf;
        }
        return;
    }
}

static void say_memory(struct plan_fit *out)
{
    enum mem_part part = mem_limiting(&out->memory);
    snprintf(out->reason, sizeof out->reason,
             "%s short with CP %d, on rank %d at block %d, largest part %s (%s)%s",
             BYTES(fit_short(out)), out->cp, out->memory.rank, out->memory.block,
             mem_part_names[part], BYTES(out->memory.part[part]),
             plan_no_hope(&out->memory, out->memory_limit));
}

/* Each degree again, for its nearest miss; refusals end at the first block, so this is cheap. */
static void nearest_miss(const struct plan_request *r, const struct plan_found *all,
                         struct plan_fit *out, struct arena *a)
{
    int tensor = r->tensor > 1 ? r->tensor : 1, count = r->cp ? 1 : all->degree_count;
    for (int i = 0; i < count; i++) {
        struct plan_request one = *r;
        struct plan_found f;
        struct err e = {0};
        one.cp = r->cp ? r->cp : all->degrees[i].cp;
        one.keep_candidates = 1;
        if (!plan_search(&one, &f, a, &e) && e.code == ERR_INFEASIBLE)
            take_nearest(&f, one.cp, out->gpus / tensor / one.cp, out);
    }
    say_memory(out);
}

bool plan_fit(const struct plan_request *r, const struct plan_limits *l, struct plan_fit *out,
              struct arena *a, struct err *e)
{
    struct plan_found f = {0};
    struct err found = {0};
    struct plan_request one = *r;
    *out = (struct plan_fit){.gpus = hw_gpus(r->c.cluster),
                             .samples = r->c.samples,
                             .memory_limit = r->c.cluster->gpu.memory_bytes};
    if (!one.rerank)
        one.keep_candidates = 1; /* the best is all that is asked for */
    if (plan_search(&one, &f, a, &found)) {
        const struct degree_row *d = choose(&f, l);
        out->verdict = keeps(d, l) ? FIT_YES : FIT_SLOW;
        if (out->verdict == FIT_SLOW)
            say_slow(d, l, out);
        return take_degree(&one, &f, d, out, a, e);
    }
    if (found.code == ERR_INFEASIBLE) {
        out->verdict = FIT_MEMORY;
        nearest_miss(r, &f, out, a);
        return true;
    }
    if (found.code != ERR_INPUT) {
        *e = found;
        return false;
    }
    out->verdict = FIT_IMPOSSIBLE;
    snprintf(out->reason, sizeof out->reason, "%s", found.text);
    return true;
}

static void fit_one(const struct plan_request *r, const struct plan_limits *l, struct plan_fit *out,
                    struct err *e)
{
    struct arena *a = arena_new();
    plan_fit(r, l, out, a, e);
    out->conf.pieces = NULL;
    out->conf.piece_count = 0;
    arena_free(a);
}

bool plan_fit_all(const struct plan_request *r, int count, const struct plan_limits *l,
                  struct plan_fit *out, struct err *e)
{
    struct arena *a = arena_new();
    struct err *found = ARENA_ARRAY(a, struct err, count);
#pragma omp parallel for schedule(dynamic, 1)
    for (int i = 0; i < count; i++)
        fit_one(&r[i], l, &out[i], &found[i]);
    bool ok = true;
    for (int i = 0; i < count && ok; i++)
        if (found[i].code != ERR_NONE) {
            *e = found[i];
            ok = false;
        }
    arena_free(a);
    return ok;
}
