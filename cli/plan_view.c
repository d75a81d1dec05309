#include "cli/plan_view.h"

#include <math.h>
#include <string.h>

#include "planner/batch.h"

#define TIME(s)   qty_text((s), QTY_SECONDS, QTY_BUF)
#define BYTES(b)  qty_text((b), QTY_BYTES, QTY_BUF)
#define RATIO(r)  qty_text((r), QTY_RATIO, QTY_BUF)
#define NUMBER(n) qty_text((n), QTY_NUMBER, QTY_BUF)

struct view {
    const struct plan_request *r;
    const struct plan_found *f;
    const struct plan *p;
    FILE *out;
    struct arena *a;
};

/* ---- headline ---- */

static const char *const covers[] = {[PLAN_ATTENTION] = "attention of all blocks takes",
                                     [PLAN_BLOCK] = "all blocks take",
                                     [PLAN_STEP] = "a step takes"};

static int slowest_block(const struct plan *p)
{
    int most = 0;
    for (int b = 1; b < p->block_count; b++)
        if (p->blocks[b].time.total_s > p->blocks[most].time.total_s)
            most = b;
    return most;
}

/* " (27.1 to 32.0 s)": where the time lies nine times out of ten. */
static const char *step_range(const struct view *v)
{
    for (int i = 0; i < v->f->degree_count; i++) {
        const struct degree_row *d = &v->f->degrees[i];
        if (d->fits && d->cp == v->p->cp)
            return arena_printf(v->a, " (90%%: %s to %s)", TIME(d->step.low_s),
                                TIME(d->step.high_s));
    }
    return "";
}

/* "for 64 samples in 8 passes " where a step is not one pass of all replicas. */
static const char *batch_words(const struct view *v)
{
    const struct plan *p = v->p;
    if (!(p->batch.samples > 0))
        return "";
    return arena_printf(v->a, "for %s samples in %s pass%s ", NUMBER(p->batch.samples),
                        NUMBER(p->batch.passes), p->batch.passes > 1 ? "es" : "");
}

/* What a batch leaves without work: replicas of the last pass. */
static void put_idle(const struct view *v)
{
    const struct plan *p = v->p;
    double room = p->batch.passes * p->replicas * p->c.samples,
           idle = floor((room - p->batch.samples) / p->c.samples);
    if (p->batch.samples > 0 && idle >= 1)
        fprintf(v->out, "%s of %d replicas have no sample in the last pass and wait.\n",
                NUMBER(idle), p->replicas);
}

static void headline(const struct view *v)
{
    const struct plan *p = v->p;
    const struct mem_use *m = &p->memory_peak;
    enum mem_part part = mem_limiting(m);
    fprintf(
        v->out,
        "%s, %s tokens on %s: %sCP %d, %d replica%s; %s%s %s%s, %s samples/s; %s of %s a GPU.\n",
        p->c.model->name, NUMBER((double)p->c.video_tokens), p->c.cluster->name,
        p->tensor > 1 ? arena_printf(v->a, "TP %d, ", p->tensor) : "", p->cp, p->replicas,
        p->replicas == 1 ? "" : "s", batch_words(v), covers[p->phase], TIME(p->batch.step_s),
        step_range(v), NUMBER(plan_step_samples(v->r, p->replicas) / p->batch.step_s),
        BYTES(m->total), BYTES(p->c.cluster->gpu.memory_bytes));
    put_idle(v);
    if (p->phase == PLAN_STEP)
        fprintf(v->out, "%s: blocks %s, weights and gradients beside them %s, optimizer %s%s. ",
                p->batch.passes > 1 ? "Each pass" : "Step", TIME(p->blocks_s), TIME(p->fsdp_s),
                TIME(p->optimizer_s), p->batch.passes > 1 ? " once a step" : "");
    fprintf(v->out, "Memory: rank %d at block %d, largest part %s %s.\n", m->rank, m->block,
            mem_part_names[part], BYTES(m->part[part]));
}

/* ---- which blocks run what ---- */

static bool same_conf(const struct cp_conf *a, const struct cp_conf *b)
{
    return a->strategy == b->strategy && a->head_groups == b->head_groups &&
           a->seq_groups == b->seq_groups && a->heads_inside == b->heads_inside &&
           a->sparse == b->sparse;
}

/* "0-6, 9, 12-14": the blocks that run what block `like` runs. */
static const char *block_ranges(const struct plan *p, int like, struct arena *a)
{
    char *text = arena_strdup(a, "");
    for (int b = like; b < p->block_count; b++) {
        if (!same_conf(&p->blocks[b].conf, &p->blocks[like].conf))
            continue;
        int end = b;
        while (end + 1 < p->block_count &&
               same_conf(&p->blocks[end + 1].conf, &p->blocks[like].conf))
            end++;
        text = end > b ? arena_printf(a, "%s%s%d-%d", text, *text ? ", " : "", b, end)
                       : arena_printf(a, "%s%s%d", text, *text ? ", " : "", b);
        b = end;
    }
    return text;
}

static bool seen_before(const struct plan *p, int block)
{
    for (int b = 0; b < block; b++)
        if (same_conf(&p->blocks[b].conf, &p->blocks[block].conf))
            return true;
    return false;
}

static void configurations(const struct view *v)
{
    static const struct table_col cols[] = {{"configuration", "configuration", TABLE_STR, 0},
                                            {"time_s", "time", TABLE_QTY, QTY_SECONDS},
                                            {"share", "share", TABLE_QTY, QTY_RATIO},
                                            {"slowest_s", "slowest", TABLE_QTY, QTY_SECONDS},
                                            {"blocks", "blocks", TABLE_STR, 0}};
    const struct plan *p = v->p;
    struct table *t = table_new(v->a, cols, 5);
    char text[96];
    for (int b = 0; b < p->block_count; b++) {
        if (seen_before(p, b))
            continue;
        double sum = 0, most = 0;
        for (int k = b; k < p->block_count; k++)
            if (same_conf(&p->blocks[k].conf, &p->blocks[b].conf)) {
                sum += p->blocks[k].time.total_s;
                most = fmax(most, p->blocks[k].time.total_s);
            }
        table_str(t, cp_conf_text(&p->blocks[b].conf, text, sizeof text));
        table_num(t, sum);
        table_num(t, sum / p->step_s);
        table_num(t, most);
        table_str(t, block_ranges(p, b, v->a));
    }
    fputc('\n', v->out);
    table_print(t, TABLE_TEXT, v->out);
}

/* ---- the other degrees ---- */

static void degrees(const struct view *v)
{
    static const struct table_col cols[] = {{"cp", "CP", TABLE_INT, 0},
                                            {"replicas", "replicas", TABLE_INT, 0},
                                            {"step_s", "time", TABLE_QTY, QTY_SECONDS},
                                            {"samples_per_s", "samples/s", TABLE_QTY, QTY_NUMBER},
                                            {"memory_bytes", "memory", TABLE_QTY, QTY_BYTES},
                                            {"verdict", "", TABLE_STR, 0}};
    struct table *t = table_new(v->a, cols, 6);
    for (int i = 0; i < v->f->degree_count; i++) {
        const struct degree_row *d = &v->f->degrees[i];
        table_int(t, d->cp);
        table_int(t, d->replicas);
        table_num(t, d->fits ? d->step_s : NAN);
        table_num(t, d->fits ? d->samples_per_s : NAN);
        table_num(t, d->fits ? d->memory.total : NAN);
        table_str(t, d->too_much         ? "does not fit"
                     : !d->fits          ? "no configuration"
                     : d->cp == v->p->cp ? "chosen"
                     : d->tie            ? "tie: --explain"
                                         : "");
    }
    fputc('\n', v->out);
    table_print(t, TABLE_TEXT, v->out);
}

/* ---- the slowest block ---- */

static double most_of(const double *x, int n)
{
    double most = 0;
    for (int i = 0; i < n; i++)
        most = fmax(most, x[i]);
    return most;
}

static void candidates(const struct view *v, int block, int top)
{
    static const struct table_col cols[] = {{"configuration", "configuration", TABLE_STR, 0},
                                            {"time_s", "time", TABLE_QTY, QTY_SECONDS},
                                            {"over_best", "over best", TABLE_QTY, QTY_RATIO},
                                            {"compute_s", "compute", TABLE_QTY, QTY_SECONDS},
                                            {"exchange_s", "exchange", TABLE_QTY, QTY_SECONDS},
                                            {"memory_bytes", "memory", TABLE_QTY, QTY_BYTES},
                                            {"weights_s", "weights", TABLE_QTY, QTY_SECONDS}};
    const struct plan_compared *c = &v->f->compared[block];
    bool weights = v->p->phase == PLAN_STEP;
    struct table *t = table_new(v->a, cols, 6 + weights);
    char text[96];
    for (int i = 0; i < c->count && i < top; i++) {
        const struct plan_candidate *k = &c->best[i];
        table_str(t, cp_conf_text(&k->conf, text, sizeof text));
        table_num(t, k->time.total_s);
        table_num(t, plan_candidate_s(k) / plan_candidate_s(&c->best[0]) - 1);
        table_num(t, most_of(k->time.compute_s, plan_ranks(v->p)));
        table_num(t, most_of(k->time.comm_s, plan_ranks(v->p)));
        table_num(t, k->memory.total);
        if (weights)
            table_num(t, k->weights_s);
    }
    fprintf(v->out, "\nSlowest block %d: best of %d configurations", block, c->tried);
    fprintf(v->out, c->refused ? ", %d of them over memory\n" : "\n", c->refused);
    table_print(t, TABLE_TEXT, v->out);
}

enum { BAR = 60, BARS_MOST = 16 };

static void put_bar(FILE *out, double seconds, double scale, char mark, double *from)
{
    int begin = (int)lround(*from * scale), end = (int)lround((*from + seconds) * scale);
    for (int i = begin; i < end; i++)
        fputc(mark, out);
    *from += seconds;
}

/* Seconds of a rank over all blocks. A rank that is done with a block early waits for the slowest
 * one. */
struct rank_sum {
    double compute_s, exchange_s;
};

static struct rank_sum *sum_ranks(const struct plan *p, struct arena *a)
{
    struct rank_sum *sum = ARENA_ARRAY(a, struct rank_sum, plan_ranks(p));
    for (int b = 0; b < p->block_count; b++)
        for (int r = 0; r < plan_ranks(p); r++) {
            sum[r].compute_s += p->blocks[b].time.compute_s[r];
            sum[r].exchange_s += p->blocks[b].time.comm_s[r];
        }
    return sum;
}

/* One line a rank; with many ranks, the busiest of each run of ranks. */
static void bars(const struct view *v)
{
    struct rank_sum *sum = sum_ranks(v->p, v->a);
    int ranks = plan_ranks(v->p), each = (ranks + BARS_MOST - 1) / BARS_MOST;
    double scale = BAR / v->p->blocks_s;
    fprintf(
        v->out,
        "\nRanks over all blocks%s: # compute (at the right), = exchange, . waiting for others\n",
        each > 1 ? " (the busiest of each run)" : "");
    for (int first = 0; first < ranks; first += each) {
        int r = first;
        for (int k = first; k < first + each && k < ranks; k++)
            if (sum[k].compute_s > sum[r].compute_s)
                r = k;
        double from = 0;
        fprintf(v->out, "%5d |", r);
        put_bar(v->out, sum[r].compute_s, scale, '#', &from);
        put_bar(v->out, sum[r].exchange_s, scale, '=', &from);
        put_bar(v->out, v->p->blocks_s - from, scale, '.', &from);
        fprintf(v->out, "| %s\n", TIME(sum[r].compute_s));
    }
}

/* ---- what the answer rests on ---- */

static double median_keep(const struct sparsity *s, struct arena *a)
{
    int n = s->blocks * s->heads;
    double *k = ARENA_ARRAY(a, double, n);
    memcpy(k, s->keep, (size_t)n * sizeof *k);
    for (int i = 1; i < n;
         i++) { /* insertion: a few thousand at most, and nearly sorted profiles are common */
        double x = k[i];
        int j = i;
        for (; j > 0 && k[j - 1] > x; j--)
            k[j] = k[j - 1];
        k[j] = x;
    }
    return n % 2 ? k[n / 2] : 0.5 * (k[n / 2 - 1] + k[n / 2]);
}

static void break_even(const struct view *v)
{
    const struct cp_case *c = &v->r->c;
    double tokens = (double)dit_attention_tokens(c->model, 0, c->video_tokens);
    double s =
        kern_breakeven(c->kernels, &c->kernels->best, &c->cluster->gpu, tokens, c->model->head_dim,
                       v->r->query_group, c->options.checkpointing == CHECKPOINT_FULL);
    fprintf(v->out, "Kernels %s: ", c->kernels->name);
    if (s < 1)
        fprintf(v->out, "sparse beats the best dense kernel (%s) above %s sparsity",
                c->kernels->best.name, RATIO(s));
    else
        fprintf(v->out, "sparse never beats the best dense kernel (%s)", c->kernels->best.name);
    fprintf(v->out, "; the median head here has %s.\n", RATIO(1 - median_keep(c->sparsity, v->a)));
}

/* A profile of another chip is an assumption, and the reader must know. */
static void other_gpu(const struct view *v)
{
    const struct cp_case *c = &v->r->c;
    const struct kern_profile *k = c->kernels;
    if (!kern_assumed(k, &c->cluster->gpu))
        return;
    fprintf(v->out, "These kernels were measured on %s, not on %s: ", k->measured_on,
            c->cluster->gpu.name);
    if (k->dense.curve.of)
        fprintf(
            v->out,
            "dense attention and linear layers are priced by the curves of %s (%s), sparse times "
            "are those of that chip's SMs and memory, never faster.\n",
            c->cluster->gpu.name, prof_class_names[k->dense.curve.of->attention[0].origin]);
    else
        fputs("dense times assume the same share of its peak, sparse times that chip's SMs and "
              "memory, never faster.\n",
              v->out);
}

/* Nothing is extrapolated in silence. */
static void beyond(const struct view *v)
{
    double outside = 0;
    for (int b = 0; b < v->p->block_count; b++)
        outside += v->p->blocks[b].time.outside_s;
    if (outside > 0.005 * v->p->blocks_s)
        fprintf(
            v->out,
            "%s of the blocks' time lies beyond what its kernels' curves were measured at (sizes, "
            "or a backward from its forward): the interval is wider for it.\n",
            RATIO(outside / v->p->blocks_s));
}

/* A trace of another clip says nothing of how sparsity changes with the clip. */
static void other_grid(const struct view *v)
{
    const struct cp_case *c = &v->p->c;
    struct grid of = c->sparsity->grid;
    bool same_shape =
        c->grid.t == 0 || (of.t == c->grid.t && of.h == c->grid.h && of.w == c->grid.w);
    if (of.t == 0 || (grid_tokens(of) == c->video_tokens && same_shape))
        return;
    fprintf(v->out,
            "The trace is of %s tokens (%dx%dx%d), this plan of %s: its shares are taken as they "
            "are.\n",
            NUMBER((double)grid_tokens(of)), of.t, of.h, of.w, NUMBER((double)c->video_tokens));
}

static void rests_on(const struct view *v)
{
    const struct sparsity *s = v->r->c.sparsity;
    char model[96];
    fputc('\n', v->out);
    if (strcmp(v->p->c.model->attention, "full") != 0)
        fprintf(v->out,
                "Note: attention of %s is %s; this is priced as full attention, an upper bound.\n",
                v->p->c.model->name, v->p->c.model->attention);
    other_gpu(v);
    beyond(v);
    if (median_keep(s, v->a) >= 1) {
        bool sparse = v->p->blocks[slowest_block(v->p)].conf.sparse;
        fprintf(v->out, "%s (no sparsity given), kernels %s.\n",
                sparse ? "Sparse kernels over all keys" : "Dense attention", v->r->c.kernels->name);
        return;
    }
    break_even(v);
    other_grid(v);
    if (s->model.kind == UNION_MEASURED)
        fputs("Rows that a rank fetches: the measured union of the trace.\n", v->out);
    else
        fprintf(
            v->out,
            "Rows that a rank fetches: union model %s, an assumption until measured (--union).\n",
            union_text(&s->model, model, sizeof model));
}

void plan_view(const struct plan_request *r, const struct plan_found *f, int top, FILE *out,
               struct arena *scratch)
{
    struct view v = {r, f, f->plan, out, scratch};
    int block = slowest_block(f->plan);
    headline(&v);
    configurations(&v);
    if (f->degree_count > 1)
        degrees(&v);
    candidates(&v, block, top);
    if (plan_ranks(f->plan) > 1)
        bars(&v);
    rests_on(&v);
}

struct table *plan_view_rows(const struct plan *p, struct arena *a)
{
    static const struct table_col cols[] = {
        {"block", "block", TABLE_INT, 0},
        {"strategy", "strategy", TABLE_STR, 0},
        {"head_groups", "g_h", TABLE_INT, 0},
        {"seq_groups", "g_s", TABLE_INT, 0},
        {"heads_inside", "inside", TABLE_STR, 0},
        {"dispatch", "dispatch", TABLE_STR, 0},
        {"time_s", "time", TABLE_QTY, QTY_SECONDS},
        {"compute_s", "compute", TABLE_QTY, QTY_SECONDS},
        {"exchange_s", "exchange", TABLE_QTY, QTY_SECONDS},
        {"wait_s", "wait", TABLE_QTY, QTY_SECONDS},
        {"memory_bytes", "memory", TABLE_QTY, QTY_BYTES},
        {"limiting", "limiting", TABLE_STR, 0},
        {"candidates", "candidates", TABLE_INT, 0},
    };
    struct table *t = table_new(a, cols, sizeof cols / sizeof *cols);
    for (int b = 0; b < p->block_count; b++) {
        const struct plan_block *k = &p->blocks[b];
        table_int(t, b);
        table_str(t, cp_strategies[k->conf.strategy].name);
        table_int(t, k->conf.head_groups);
        table_int(t, k->conf.seq_groups);
        table_str(t, k->conf.heads_inside ? "heads" : "sequence");
        table_str(t, k->conf.sparse ? "sparse" : "dense");
        table_num(t, k->time.total_s);
        table_num(t, most_of(k->time.compute_s, plan_ranks(p)));
        table_num(t, most_of(k->time.comm_s, plan_ranks(p)));
        table_num(t, most_of(k->time.wait_s, plan_ranks(p)));
        table_num(t, k->memory.total);
        table_str(t, mem_part_names[mem_limiting(&k->memory)]);
        table_int(t, k->candidates);
    }
    return t;
}
