#include "traces/generate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct generate_job generate_default(void)
{
    struct generate_job j = {
        .pattern_count = 1, .layers = 1, .heads = 1, .level = 1, .steps = 1, .stride = 1000};
    j.patterns[0] = pattern_default(PATTERN_FIELD);
    j.grid = (struct grid){16, 16, 16};
    for (int i = 0; i < 3; i++)
        j.group[i] = j.block[i] = 4;
    j.profile.kind = PROFILE_OWN;
    return j;
}

bool generate_patterns(const char *text, struct err_at at, struct generate_job *job, struct err *e)
{
    char copy[2048];
    if (strlen(text) >= sizeof copy)
        return err_set(e, ERR_INPUT, at, "a pattern list of %zu characters; want at most %zu",
                       strlen(text), sizeof copy - 1);
    strcpy(copy, text);
    char *save = NULL;
    int n = 0;
    for (char *item = strtok_r(copy, "+", &save); item; item = strtok_r(NULL, "+", &save)) {
        if (n == GENERATE_PATTERNS)
            return err_set(e, ERR_INPUT, at, "more than %d patterns", GENERATE_PATTERNS);
        if (!pattern_parse(item, at, &job->patterns[n], e) ||
            !pattern_check(&job->patterns[n], job->grid, at, e))
            return false;
        n++;
    }
    if (n == 0)
        return err_set(e, ERR_INPUT, at, "an empty pattern; `shardwise trace patterns` lists them");
    job->pattern_count = n;
    return true;
}

static double asked_keep(const struct generate_job *j, int layer, int head, int64_t step)
{
    return profile_keep(&j->profile, layer, j->layers, head, j->heads, step, j->seed);
}

void generate_mask(const struct generate_job *j, const struct tiling *t, int layer, int head,
                   int64_t step, struct arena *a, struct mask *out)
{
    struct field_key key = {j->seed, layer, head, step};
    pattern_mask(&j->patterns[head % j->pattern_count], t, key, asked_keep(j, layer, head, step), a,
                 out);
}

struct drawn { /* one head, on its way to the file */
    struct arena *arena;
    struct mask mask;
    struct atom_rows rows;
    struct head_stats stats;
};

static void draw_head(const struct generate_job *j, const struct tiling *t,
                      const struct atoms *atoms, int layer, int head, int64_t step, struct drawn *d)
{
    arena_reset(d->arena);
    generate_mask(j, t, layer, head, step, d->arena, &d->mask);
    struct weigh w = weigh_make(&t->block, d->arena);
    stats_head(t, &w, &d->mask, d->arena, &d->stats);
    stats_atoms(t, &w, &d->mask, atoms, d->arena, &d->rows);
}

/* Heads drawn at once: as many as fit 256 MiB of bitmaps, so memory does not grow with the model. */
static int batch_size(const struct tiling *t, int heads)
{
    double bytes = (double)t->group.count * (((double)t->block.count + 63) / 64) * 8;
    int fit = (int)fmin(64, 268435456.0 / (2 * bytes));
    return fit < 1 ? 1 : fit < heads ? fit : heads;
}

static bool put_record(const struct generate_job *j, const struct tiling *t,
                       const struct atoms *atoms, int layer, int64_t step, struct drawn *drawn,
                       int batch, struct trace_writer *w, struct err *e)
{
    for (int first = 0; first < j->heads; first += batch) {
        int n = j->heads - first < batch ? j->heads - first : batch;
#pragma omp parallel for schedule(dynamic, 1)
        for (int i = 0; i < n; i++)
            draw_head(j, t, atoms, layer, first + i, step, &drawn[i]);
        for (int i = 0; i < n; i++)
            if (!trace_put_head(w, first + i, drawn[i].stats.keep, drawn[i].stats.keep_q,
                                &drawn[i].rows, &drawn[i].mask, e))
                return false;
    }
    struct trace_record record = {.step = step, .layer = layer, .level = j->level, .noise_t = NAN};
    return trace_commit(w, &record, e);
}

static struct trace_info job_info(const struct generate_job *j, const struct atoms *atoms)
{
    struct trace_info info = trace_info_default();
    const int grid[3] = {j->grid.t, j->grid.h, j->grid.w};
    for (int i = 0; i < 3; i++) {
        info.grid[i] = grid[i];
        info.query_group[i] = j->group[i];
        info.kv_block[i] = j->block[i];
        info.atom_grid[i] = atoms->axis[i];
    }
    info.atoms = atoms->count;
    info.heads = j->heads;
    info.layers = j->layers;
    info.level = j->level;
    info.seed = (int64_t)j->seed;
    info.mass_threshold =
        j->patterns[0].kind == PATTERN_FIELD && j->patterns[0].select == SELECT_TOPP
            ? j->patterns[0].mass
            : 0;
    snprintf(info.method, sizeof info.method, "%s", pattern_names[j->patterns[0].kind]);
    snprintf(info.model, sizeof info.model, "%s", j->model ? j->model : "");
    return info;
}

static bool put_records(const struct generate_job *j, const struct tiling *t,
                        const struct atoms *atoms, struct trace_writer *w, struct err *e)
{
    int batch = batch_size(t, j->heads), total = j->steps * j->layers, done = 0;
    struct drawn *drawn = calloc((size_t)batch, sizeof *drawn);
    if (!drawn)
        abort();
    for (int i = 0; i < batch; i++)
        drawn[i].arena = arena_new();
    bool ok = true;
    for (int s = 0; s < j->steps && ok; s++)
        for (int layer = 0; layer < j->layers && ok; layer++) {
            ok = put_record(j, t, atoms, layer, j->step + s * j->stride, drawn, batch, w, e);
            if (j->progress)
                j->progress(j->self, (double)++done / total);
        }
    for (int i = 0; i < batch; i++)
        arena_free(drawn[i].arena);
    free(drawn);
    return ok;
}

bool generate_trace(const struct generate_job *j, const char *path, struct err *e)
{
    struct arena *a = arena_new();
    struct tiling t;
    struct atoms atoms;
    struct trace_writer *w = NULL;
    bool ok = tiling_make(j->grid, j->group, j->block, a, &t, e);
    if (ok) {
        atoms_make(&t, a, &atoms);
        struct trace_info info = job_info(j, &atoms);
        w = trace_create(path, &info, e);
        ok = w && put_records(j, &t, &atoms, w, e);
    }
    if (w && ok)
        ok = trace_finish(w, e);
    else
        trace_drop(w);
    arena_free(a);
    return ok;
}

static double summary_keep(const struct generate_job *j, const struct tiling *t, int layer,
                           int head, int64_t step)
{
    double keep = asked_keep(j, layer, head, step);
    if (j->patterns[head % j->pattern_count].kind == PATTERN_FIELD && !isnan(keep))
        return keep;
    struct drawn d = {.arena = arena_new()};
    struct mask m;
    generate_mask(j, t, layer, head, step, d.arena, &m);
    struct weigh w = weigh_make(&t->block, d.arena);
    stats_head(t, &w, &m, d.arena, &d.stats);
    arena_free(d.arena);
    return d.stats.keep;
}

bool generate_summary(const struct generate_job *j, FILE *out, struct err *e)
{
    struct arena *a = arena_new();
    struct tiling t;
    if (!tiling_make(j->grid, j->group, j->block, a, &t, e)) {
        arena_free(a);
        return false;
    }
    double *keep = ARENA_ARRAY(a, double, j->heads);
    fprintf(out, "step,block,head,keep\n");
    for (int s = 0; s < j->steps; s++)
        for (int layer = 0; layer < j->layers; layer++) {
            int64_t step = j->step + s * j->stride;
#pragma omp parallel for schedule(dynamic, 1)
            for (int h = 0; h < j->heads; h++)
                keep[h] = summary_keep(j, &t, layer, h, step);
            for (int h = 0; h < j->heads; h++)
                fprintf(out, "%lld,%d,%d,%.6g\n", (long long)step, layer, h, keep[h]);
        }
    arena_free(a);
    return true;
}
