/* Published runs beside the planner's answers. */
#include "validate/published.h"

#include <math.h>
#include <string.h>

#include "model/calib.h"

const char *const published_units[] = {"s", "TFLOP/s/GPU", "tokens/s/GPU", "GB", NULL};

enum { ROWS_MOST = 2000, TENSOR_MOST = 64, SAMPLES_MOST = 4096, GPUS_MOST = 1 << 16 };

/* ---- reading ---- */

enum column {
    ID,
    PROJECT,
    SOURCE,
    KIND,
    MODEL,
    CLIP,
    GRID,
    SAMPLES,
    CLUSTER,
    GPUS,
    TP,
    CP,
    STRATEGY,
    KERNELS,
    SHARDING,
    CHECKPOINTING,
    POINTWISE,
    PASS_COUNT,
    UNIT,
    PUBLISHED,
    BEYOND,
    ASSUMED,
    ONE_GPU,
    ACTIVATIONS,
    COLUMNS
};
static const char *const columns[COLUMNS] = {
    "id",       "project",   "source",   "kind",          "model",     "clip",
    "grid",     "samples",   "cluster",  "gpus",          "tp",        "cp",
    "strategy", "kernels",   "sharding", "checkpointing", "pointwise", "passes",
    "unit",     "published", "beyond",   "assumed",       "one_gpu",   "activations"};

struct reader {
    const struct csv *csv;
    int at[COLUMNS];
    int row;
    struct arena *a;
    struct err *e;
};

static const char *cell(const struct reader *r, enum column c)
{
    return csv_cell(r->csv, r->row, r->at[c]);
}

static struct err_at place(const struct reader *r)
{
    return (struct err_at){r->csv->path, r->csv->line[r->row], 0};
}

static int index_of(const char *const *names, const char *name)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], name))
            return i;
    return -1;
}

static const char *all_of(const char *const *names, struct arena *a)
{
    const char *text = "";
    for (int i = 0; names[i]; i++)
        text = arena_printf(a, "%s%s%s", text, i ? ", " : "", names[i]);
    return text;
}

static bool choice(const struct reader *r, enum column c, const char *name,
                   const char *const *names, int *out)
{
    *out = index_of(names, name);
    return *out >= 0 || err_set(r->e, ERR_INPUT, place(r), "%s: '%.60s' is none of %s", columns[c],
                                name, all_of(names, r->a));
}

static bool whole(const struct reader *r, enum column c, int most, int *out)
{
    int64_t v;
    if (!csv_int(r->csv, r->row, r->at[c], 1, most, &v, r->e))
        return false;
    *out = (int)v;
    return true;
}

static bool positive(const struct reader *r, enum column c, double *out)
{
    if (!csv_num(r->csv, r->row, r->at[c], out, r->e))
        return false;
    return *out > 0 ||
           err_set(r->e, ERR_INPUT, place(r), "%s: %g is not positive", columns[c], *out);
}

/* "a;b": up to PUBLISHED_CHOICES names. */
static bool split(const struct reader *r, enum column c, const char **out, int *count)
{
    char *text = arena_printf(r->a, "%s", cell(r, c)), *rest;
    *count = 0;
    for (char *t = strtok_r(text, ";", &rest); t; t = strtok_r(NULL, ";", &rest)) {
        if (*count == PUBLISHED_CHOICES)
            return err_set(r->e, ERR_INPUT, place(r), "%s: more than %d choices", columns[c],
                           PUBLISHED_CHOICES);
        out[(*count)++] = t;
    }
    return *count > 0 || err_set(r->e, ERR_INPUT, place(r), "%s: nothing given", columns[c]);
}

static bool choices(const struct reader *r, enum column c, const char *const *names, int *out,
                    int *count)
{
    const char *part[PUBLISHED_CHOICES];
    if (!split(r, c, part, count))
        return false;
    for (int i = 0; i < *count; i++)
        if (!choice(r, c, part[i], names, &out[i]))
            return false;
    return true;
}

static bool read_tokens(const struct reader *r, struct published_run *p)
{
    struct clip clip;
    bool by_clip = *cell(r, CLIP), by_grid = *cell(r, GRID);
    if (by_clip == by_grid)
        return err_set(r->e, ERR_INPUT, place(r), "want either a clip or a grid");
    if (by_grid ? !grid_parse(cell(r, GRID), place(r), &p->grid, r->e)
                : !clip_parse(cell(r, CLIP), place(r), &clip, r->e) ||
                      !dit_grid(p->model, clip, place(r), &p->grid, r->e))
        return false;
    p->tokens = grid_tokens(p->grid);
    return true;
}

static bool read_cluster(const struct reader *r, struct published_run *p)
{
    int gpus;
    const struct hw_cluster *all;
    struct hw_cluster *part = ARENA_NEW(r->a, struct hw_cluster);
    if (!whole(r, GPUS, GPUS_MOST, &gpus) ||
        !(all = hw_cluster_load(cell(r, CLUSTER), place(r), r->a, r->e)) ||
        !hw_cluster_take(all, gpus, part, r->a, place(r), r->e) || !calib_cluster(part, r->a, r->e))
        return false;
    p->cluster = part;
    return whole(r, TP, TENSOR_MOST, &p->tensor) && whole(r, CP, GPUS_MOST, &p->cp) &&
           (gpus % (p->tensor * p->cp) == 0 ||
            err_set(r->e, ERR_INPUT, place(r), "tp %d x cp %d does not divide the %d GPUs",
                    p->tensor, p->cp, gpus));
}

/* Loaded to see that they are there; published_answer loads them again with the curves. */
static bool read_kernels(const struct reader *r, struct published_run *p)
{
    if (!split(r, KERNELS, p->kernels, &p->kernel_count))
        return false;
    for (int i = 0; i < p->kernel_count; i++)
        if (!kern_load(p->kernels[i], place(r), r->a, r->e))
            return false;
    return true;
}

static bool read_pointwise(const struct reader *r, struct published_run *p)
{
    if (!*cell(r, POINTWISE))
        return true;
    return positive(r, POINTWISE, &p->pointwise) &&
           ((p->pointwise >= 1 && p->pointwise <= POINTWISE_MOST) ||
            err_set(r->e, ERR_INPUT, place(r), "pointwise: %g is not from 1 to %d", p->pointwise,
                    POINTWISE_MOST));
}

static bool read_number(const struct reader *r, struct published_run *p)
{
    int unit;
    if (!choice(r, UNIT, cell(r, UNIT), published_units, &unit) ||
        !positive(r, PUBLISHED, &p->value) || !positive(r, PASS_COUNT, &p->passes))
        return false;
    p->unit = (enum published_unit)unit;
    bool rate = unit == PUBLISHED_TFLOPS || unit == PUBLISHED_TOKENS;
    return p->training || !rate ||
           err_set(r->e, ERR_INPUT, place(r), "unit: '%s' is for training", published_units[unit]);
}

static bool read_row(const struct reader *r, struct published_run *p)
{
    static const char *const kinds[] = {"inference", "training", NULL};
    int kind, sharding, activations = ACTIVATIONS_PLAIN;
    *p = (struct published_run){
        .id = cell(r, ID),
        .project = cell(r, PROJECT),
        .source = cell(r, SOURCE),
        .beyond = cell(r, BEYOND),
        .assumed = cell(r, ASSUMED),
        .one_gpu = -1,
        .place = arena_printf(r->a, "%s:%d", r->csv->path, r->csv->line[r->row])};
    if (!*p->id || !*p->project || !*p->source)
        return err_set(r->e, ERR_INPUT, place(r), "id, project and source must be given");
    if (!choice(r, KIND, cell(r, KIND), kinds, &kind) ||
        !choice(r, SHARDING, cell(r, SHARDING), sharding_names, &sharding) ||
        (*cell(r, ACTIVATIONS) &&
         !choice(r, ACTIVATIONS, cell(r, ACTIVATIONS), activations_names, &activations)) ||
        !(p->model = dit_load(cell(r, MODEL), place(r), r->a, r->e)))
        return false;
    p->training = kind == 1;
    p->sharding = (enum sharding)sharding;
    p->activations = (enum activations)activations;
    return read_tokens(r, p) && read_cluster(r, p) && read_kernels(r, p) && read_pointwise(r, p) &&
           whole(r, SAMPLES, SAMPLES_MOST, &p->samples) &&
           choices(r, STRATEGY, cp_strategy_names, p->strategies, &p->strategy_count) &&
           choices(r, CHECKPOINTING, checkpointing_names, p->checkpoints, &p->checkpoint_count) &&
           read_number(r, p);
}

/* What can stand for another run on one GPU: a time, of one choice but for the kernels, which are
 * those of the other, of the same project, model and tokens. */
static bool stands_for(const struct published_run *one, const struct published_run *r)
{
    bool same = hw_gpus(one->cluster) == 1 && one->unit == PUBLISHED_S && r->unit == PUBLISHED_S &&
                !one->training && !r->training && !strcmp(one->project, r->project) &&
                !strcmp(one->model->name, r->model->name) && one->tokens == r->tokens &&
                !strcmp(one->cluster->gpu.name, r->cluster->gpu.name) && one->strategy_count == 1 &&
                one->checkpoint_count == 1 && one->kernel_count == r->kernel_count;
    for (int i = 0; same && i < r->kernel_count; i++)
        same = !strcmp(one->kernels[i], r->kernels[i]);
    return same;
}

static bool read_one_gpu(const struct reader *r, struct published_run *rows)
{
    const char *id = cell(r, ONE_GPU);
    for (int i = 0; *id && i < r->csv->rows; i++)
        if (!strcmp(rows[i].id, id)) {
            rows[r->row].one_gpu = i;
            return stands_for(&rows[i], &rows[r->row]) ||
                   err_set(r->e, ERR_INPUT, place(r),
                           "one_gpu: '%.60s' is not the same inference run on one GPU in s: its "
                           "project, model, tokens, GPU and kernels must be this row's",
                           id);
        }
    return !*id || err_set(r->e, ERR_INPUT, place(r), "one_gpu: no row has the id '%.60s'", id);
}

bool published_read(const char *path, struct published_run **out, int *count, struct arena *a,
                    struct err *e)
{
    struct csv c;
    struct reader r = {.csv = &c, .a = a, .e = e};
    if (!csv_read(path, a, &c, e))
        return false;
    for (int i = 0; i < COLUMNS; i++)
        if (!csv_need(&c, columns[i], &r.at[i], e))
            return false;
    if (c.rows > ROWS_MOST)
        return err_set(e, ERR_INPUT, err_at_name(path), "%d rows; at most %d", c.rows, ROWS_MOST);
    struct published_run *rows = ARENA_ARRAY(a, struct published_run, c.rows + 1);
    for (r.row = 0; r.row < c.rows; r.row++)
        if (!read_row(&r, &rows[r.row]))
            return false;
    for (r.row = 0; r.row < c.rows; r.row++)
        if (!read_one_gpu(&r, rows))
            return false;
    *out = rows;
    *count = c.rows;
    return true;
}

/* ---- asking the planner ---- */

double published_forward_flop(const struct dit_model *m, int64_t tokens)
{
    double flop = dit_linear_flop(m, tokens);
    for (int b = 0; b < dit_blocks(m); b++) {
        double n = (double)dit_attention_tokens(m, b, tokens);
        flop += 4 * n * n * m->heads * m->head_dim + dit_cross_flop(m, b, tokens);
    }
    return flop;
}

/* One choice of what is open. */
struct pick {
    const char *kernels;
    int strategy, checkpointing;
};

/* A plan that does not fit is priced all the same: how much it needs is a number of its own. */
static const struct hw_cluster *roomy(const struct hw_cluster *c, struct arena *a)
{
    struct hw_cluster *out = ARENA_NEW(a, struct hw_cluster);
    *out = *c;
    out->gpu.memory_bytes = 1e15;
    return out;
}

static const struct kern_profile *with_pointwise(const struct kern_profile *k, double times,
                                                 struct arena *a)
{
    struct kern_profile *out = ARENA_NEW(a, struct kern_profile);
    *out = *k;
    out->pointwise_least = out->pointwise_most = times;
    return out;
}

static bool request(const struct published_run *r, const struct pick *k, struct plan_request *out,
                    struct arena *a, struct err *e)
{
    struct err_at at = err_at_name(r->place);
    struct sparsity *dense = ARENA_NEW(a, struct sparsity);
    bool *strategies = ARENA_ARRAY(a, bool, CP_STRATEGIES);
    const struct kern_profile *kernels = kern_load(k->kernels, at, a, e);
    if (!kernels || !(kernels = calib_kernels(kernels, r->cluster, at, a, e)) ||
        !sparsity_uniform(1, dit_blocks(r->model), r->model->heads, a, dense, e))
        return false;
    if (r->pointwise > 0)
        kernels = with_pointwise(kernels, r->pointwise, a);
    memset(strategies, 0, CP_STRATEGIES * sizeof *strategies);
    strategies[k->strategy] = true;
    *out = (struct plan_request){.c = {.cluster = roomy(r->cluster, a),
                                       .model = r->model,
                                       .kernels = kernels,
                                       .sparsity = dense,
                                       .options = cp_options_default(),
                                       .video_tokens = r->tokens,
                                       .grid = r->grid,
                                       .samples = r->samples},
                                 .memory = mem_options_default(hw_gpus(r->cluster) / r->tensor),
                                 .phase = PLAN_STEP,
                                 .tensor = r->tensor,
                                 .cp = r->cp,
                                 .strategies = strategies,
                                 .dispatch = DISPATCH_DENSE,
                                 .query_group = 1,
                                 .eval = &eval_cost,
                                 .keep_candidates = 1};
    out->c.options.inference = !r->training;
    out->c.options.checkpointing = (enum checkpointing)k->checkpointing;
    out->memory.sharding = r->sharding;
    out->memory.activations = r->activations;
    return true;
}

/* Of a step's seconds, in the row's unit. */
static double in_unit(const struct published_run *r, double step_s)
{
    double gpus = hw_gpus(r->cluster), samples = gpus / r->tensor / r->cp * r->samples;
    switch (r->unit) {
    case PUBLISHED_TFLOPS:
        return 3 * published_forward_flop(r->model, r->tokens) * samples / step_s / gpus / 1e12;
    case PUBLISHED_TOKENS:
        return (double)r->tokens * samples / step_s / gpus;
    default:
        return step_s * r->passes;
    }
}

static void widen(struct published_answer *out, double value, double one, double other)
{
    bool first = !(out->most > 0);
    out->least = first ? value : fmin(out->least, value);
    out->most = first ? value : fmax(out->most, value);
    out->low = first ? fmin(one, other) : fmin(out->low, fmin(one, other));
    out->high = first ? fmax(one, other) : fmax(out->high, fmax(one, other));
}

static bool add_pick(const struct published_run *r, const struct pick *k,
                     struct published_answer *out, struct arena *a, struct err *e)
{
    struct plan_request q;
    struct plan_found f;
    if (!request(r, k, &q, a, e) || !plan_search(&q, &f, a, e)) {
        err_prefix(e, "%s", r->place);
        return false;
    }
    const struct interval *t = &f.degrees[0].step;
    double need = f.plan->memory_peak.total / 1e9;
    bool memory = r->unit == PUBLISHED_GB;
    double value = memory ? need : in_unit(r, t->value_s);
    out->need_gb = fmax(out->need_gb, need);
    widen(out, value, memory ? need : in_unit(r, t->low_s), memory ? need : in_unit(r, t->high_s));
    out->pick[out->picks++] = value;
    return true;
}

bool published_answer(const struct published_run *r, struct published_answer *out, struct arena *a,
                      struct err *e)
{
    *out = (struct published_answer){.has_gb = r->cluster->gpu.memory_bytes / 1e9};
    int strategies = r->strategy_count, checkpoints = r->checkpoint_count;
    for (int i = 0; i < r->kernel_count * strategies * checkpoints; i++) {
        struct pick k = {r->kernels[i / strategies / checkpoints],
                         r->strategies[i / checkpoints % strategies],
                         r->checkpoints[i % checkpoints]};
        if (!add_pick(r, &k, out, a, e))
            return false;
    }
    out->off = sqrt(out->least * out->most) / r->value - 1;
    out->inside = r->value >= out->low && r->value <= out->high;
    return true;
}
