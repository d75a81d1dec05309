#include "traces/profile.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/qty.h"
#include "base/rng.h"
#include "model/sparsity.h"

const char *const profile_names[PROFILE_KINDS + 1] = {"own",      "constant", "dsv",    "webvid",
                                                      "videogen", "anneal",   "levels", NULL};

enum { MEASURED_BLOCKS = 32, MEASURED_HEADS = 16, MEASURED_STEP = 28000 };
static const double tau_steps = 35000, start_sparsity = 0.45, dsv_end_sparsity = 0.925,
                    head_spread = 0.6;

static const struct param {
    const char *key;
    size_t offset;
    double least, most;
} params[] = {
    {"keep", offsetof(struct profile, keep), 1e-6, 1},
    {"start", offsetof(struct profile, start), 1e-6, 1},
    {"end", offsetof(struct profile, end), 1e-6, 1},
    {"from", offsetof(struct profile, from), 0, 1e15},
    {"to", offsetof(struct profile, to), 0, 1e15},
    {"noise", offsetof(struct profile, noise), 0, 10},
};
enum { PARAMS = sizeof params / sizeof params[0] };

static bool param_set(struct profile *p, const char *key, const char *value, struct err_at at,
                      struct err *e)
{
    for (int i = 0; i < PARAMS; i++) {
        double number;
        if (strcmp(params[i].key, key) != 0)
            continue;
        if (!qty_parse(value, QTY_NUMBER, key, at, &number, e))
            return false;
        if (!(number >= params[i].least && number <= params[i].most))
            return err_set(e, ERR_INPUT, at, "profile: %s: '%s' is out of range; want %g to %g",
                           key, value, params[i].least, params[i].most);
        *(double *)((char *)p + params[i].offset) = number;
        return true;
    }
    return err_set(e, ERR_INPUT, at,
                   "profile: no parameter '%s'; there are keep, start, end, from, to, noise", key);
}

static bool measured_load(struct profile *p, const char *preset, struct err_at at, struct arena *a,
                          struct err *e)
{
    struct sparsity s;
    if (!sparsity_load(preset, -1, MEASURED_BLOCKS, MEASURED_HEADS, at, a, &s, e))
        return false;
    p->blocks = MEASURED_BLOCKS;
    p->heads = MEASURED_HEADS;
    p->measured = s.keep;
    return true;
}

static bool profile_finish(struct profile *p, struct err_at at, struct arena *a, struct err *e)
{
    if (p->kind == PROFILE_WEBVID)
        return measured_load(p, "webvid-2.7b-28k", at, a, e);
    if (p->kind == PROFILE_VIDEOGEN)
        return measured_load(p, "videogen-2.7b-late", at, a, e);
    if (p->kind == PROFILE_ANNEAL && p->to <= p->from)
        return err_set(e, ERR_INPUT, at, "profile anneal: from %g to %g: want to > from", p->from,
                       p->to);
    return true;
}

bool profile_parse(const char *text, struct err_at at, struct arena *a, struct profile *out,
                   struct err *e)
{
    struct profile p = {.keep = 0.1, .start = 1, .end = 0.1, .from = 0, .to = 50000, .noise = 0.1};
    char *copy = arena_strdup(a, text), *colon = strchr(copy, ':'), *save = NULL;
    int kind = 0;
    if (colon)
        *colon = '\0';
    while (profile_names[kind] && strcmp(profile_names[kind], copy) != 0)
        kind++;
    if (!profile_names[kind])
        return err_set(
            e, ERR_INPUT, at,
            "no profile '%s'; there are own, constant, dsv, webvid, videogen, anneal, levels",
            copy);
    p.kind = (enum profile_kind)kind;
    for (char *item = colon ? strtok_r(colon + 1, ",", &save) : NULL; item;
         item = strtok_r(NULL, ",", &save)) {
        char *equals = strchr(item, '=');
        if (!equals)
            return err_set(e, ERR_INPUT, at, "profile %s: '%s': want key=value", copy, item);
        *equals = '\0';
        if (!param_set(&p, item, equals + 1, at, e))
            return false;
    }
    if (!profile_finish(&p, at, a, e))
        return false;
    *out = p;
    return true;
}

static double logit(double x)
{
    x = fmin(fmax(x, 1e-4), 1 - 1e-4);
    return log(x / (1 - x));
}

static double unlogit(double y)
{
    return 1 / (1 + exp(-y));
}

/* Sparsity of a head through its measured value at `anchor`: starts at 0.45 or just below the value, ends halfway to 1
 * at most, and takes the tau that passes through the value in between. */
static double through_measured(double measured, double step, double anchor)
{
    double start = fmin(start_sparsity, measured - 0.02), decay = exp(-anchor / tau_steps);
    double end = (measured - decay * start) / (1 - decay);
    end = fmin(end, 0.5 * (1 + measured));
    double tau = -anchor / log((end - measured) / (end - start));
    return end - (end - start) * exp(-step / tau);
}

static double measured_sparsity(const struct profile *p, int layer, int layers, int head, int heads,
                                double step)
{
    int block = (int)((int64_t)layer * p->blocks / layers),
        column = (int)((int64_t)head * p->heads / heads);
    double value = 1 - p->measured[block * p->heads + column];
    if (p->kind == PROFILE_WEBVID)
        return through_measured(value, step, MEASURED_STEP);
    if (value < start_sparsity) /* VideoGen's dense ends stay dense */
        return value;
    return value - (value - start_sparsity) * exp(-step / tau_steps);
}

static double levels_sparsity(double s, int head, int heads)
{
    int third = (int)((int64_t)head * 3 / heads);
    return third == 0 ? 0.5 * (1 + s) : third == 1 ? s : fmax(0, 0.5 * (3 * s - 1));
}

static double anneal_keep(const struct profile *p, double step)
{
    double x = fmin(fmax((step - p->from) / (p->to - p->from), 0), 1);
    return p->start + (p->end - p->start) * x;
}

double profile_keep(const struct profile *p, int layer, int layers, int head, int heads,
                    int64_t step, uint64_t seed)
{
    struct rng fixed = rng_stream(seed, "profile-head", (uint64_t)layer, (uint64_t)head, 0);
    struct rng moving =
        rng_stream(seed, "profile-step", (uint64_t)layer, (uint64_t)head, (uint64_t)step + 1);
    double spread = head_spread * rng_normal(&fixed), noise = p->noise * rng_normal(&moving), s = 0;
    switch (p->kind) {
    case PROFILE_OWN:
    case PROFILE_KINDS:
        return NAN;
    case PROFILE_CONSTANT:
        return p->keep;
    case PROFILE_ANNEAL:
        return anneal_keep(p, (double)step);
    case PROFILE_LEVELS:
        return 1 - levels_sparsity(1 - p->keep, head, heads);
    case PROFILE_DSV:
        s = dsv_end_sparsity - (dsv_end_sparsity - start_sparsity) * exp(-(double)step / tau_steps);
        s = unlogit(logit(s) + spread);
        break;
    case PROFILE_WEBVID:
    case PROFILE_VIDEOGEN:
        s = measured_sparsity(p, layer, layers, head, heads, (double)step);
        break;
    }
    return fmin(1, fmax(1e-4, 1 - unlogit(logit(s) + noise)));
}
