#include "planner/explain.h"

#include <math.h>
#include <string.h>

#include "base/qty.h"
#include "model/calib.h"
#include "planner/dsv.h"

#define TIME(s) qty_text((s), QTY_SECONDS, QTY_BUF)

struct explain {
    const struct plan_request *r;
    const struct plan_found *f;
    FILE *out;
    struct arena *scratch;
};

/* ---- winner against runner-up ---- */

const char *const plan_class_names[COST_CLASSES] = {
    [CLASS_ATTENTION_DENSE] = "dense attention",
    [CLASS_ATTENTION_SPARSE] = "sparse attention",
    [CLASS_SELECT] = "selection",
    [CLASS_GEMM] = "linear layers",
    [CLASS_COPY] = "packing",
    [CLASS_COLLECTIVE] = "exchanges",
    [CLASS_P2P] = "ring hops",
    [CLASS_FSDP] = "weights",
    [CLASS_POINTWISE] = "norms, activations",
};

/* Less than this is rounding. */
#define NEGLIGIBLE_S 1e-12

static const char *time_or_dash(double s, char *text, size_t size)
{
    if (s > NEGLIGIBLE_S)
        return qty_text(s, QTY_SECONDS, text, size);
    snprintf(text, size, "-");
    return text;
}

/* What weights and gradients add beside a block counts as theirs. */
static double class_s(const struct plan_candidate *c, int class)
{
    return c->time.class_s[class] + (class == CLASS_FSDP ? c->weights_s : 0);
}

static void explain_classes(const struct explain *x, const struct plan_candidate *w,
                            const struct plan_candidate *l)
{
    fprintf(x->out, "    %-18s %12s %12s %12s\n", "on the slowest path", "winner",
            l ? "runner-up" : "", l ? "difference" : "");
    for (int k = 0; k < COST_CLASSES; k++) {
        double a = class_s(w, k), b = l ? class_s(l, k) : 0;
        if (a == 0 && b == 0)
            continue;
        fprintf(x->out, "    %-19s %12s", plan_class_names[k], time_or_dash(a, QTY_BUF));
        if (l)
            fprintf(x->out, " %12s %s%11s", time_or_dash(b, QTY_BUF),
                    b - a > NEGLIGIBLE_S   ? "+"
                    : a - b > NEGLIGIBLE_S ? "-"
                                           : " ",
                    time_or_dash(fabs(b - a), QTY_BUF));
        fputc('\n', x->out);
    }
}

static void explain_winner(const struct explain *x, const struct plan_compared *c)
{
    char w[96], l[96];
    const struct plan_candidate *best = &c->best[0], *next = c->count > 1 ? &c->best[1] : NULL;
    fprintf(x->out, "  %s takes %s", cp_conf_text(&best->conf, w, sizeof w),
            TIME(plan_candidate_s(best)));
    if (next)
        fprintf(x->out, "; next is %s with %s (+%.1f%%)", cp_conf_text(&next->conf, l, sizeof l),
                TIME(plan_candidate_s(next)),
                100 * (plan_candidate_s(next) / plan_candidate_s(best) - 1));
    fprintf(x->out, "; %d compared, %d refused by memory.\n", c->tried, c->refused);
    explain_classes(x, best, next);
}

/* The step with its interval, and the degrees that cannot be told from the chosen one. */
static void explain_degrees(const struct explain *x)
{
    for (int i = 0; i < x->f->degree_count; i++) {
        const struct degree_row *d = &x->f->degrees[i];
        if (d->fits && d->cp == x->f->plan->cp)
            fprintf(x->out, "A step takes %s, nine times out of ten between %s and %s.\n",
                    TIME(d->step_s), TIME(d->step.low_s), TIME(d->step.high_s));
        else if (d->fits && d->tie)
            fprintf(x->out,
                    "CP %d is a tie with it: measure %s to separate them (shardwise calibrate).\n",
                    d->cp, d->doubt >= 0 ? plan_class_names[d->doubt] : "both");
    }
}

/* A candidate's seconds by class and how well each is known. */
static void candidate_half(const struct explain *x, const struct plan_candidate *c, double *s,
                           double *half)
{
    double doubt[COST_CLASSES], fixed[COST_CLASSES];
    calib_half_widths(x->r->c.cluster, fixed);
    for (int k = 0; k < COST_CLASSES; k++) {
        s[k] = class_s(c, k);
        doubt[k] = c->time.doubt_s[k] + (s[k] - c->time.class_s[k]) * fixed[k];
    }
    calib_half(s, doubt, half);
}

/* What the two share cancels; what they do not is known as well as its classes are. */
static void explain_doubt(const struct explain *x, const struct plan_compared *c)
{
    double s[COST_CLASSES], half[COST_CLASSES], next_s[COST_CLASSES], other[COST_CLASSES];
    int widest;
    const struct plan_candidate *best = &c->best[0], *next = c->count > 1 ? &c->best[1] : NULL;
    candidate_half(x, best, s, half);
    struct interval t = interval_sum(s, half, COST_CLASSES);
    fprintf(x->out, "  90%% interval: %s to %s.", TIME(t.low_s), TIME(t.high_s));
    if (next) {
        candidate_half(x, next, next_s, other);
        calib_half_wider(half, other, half);
    }
    if (next && interval_tie(s, next_s, half, COST_CLASSES, &widest)) {
        fputs(" The runner-up is a tie", x->out);
        if (widest >= 0)
            fprintf(x->out, ": measure %s to separate them (shardwise calibrate)",
                    plan_class_names[widest]);
        fputc('.', x->out);
    }
    fputc('\n', x->out);
}

/* ---- heads ---- */

/* Largest sum of keeps on a head rank over the mean. */
static double skew(const struct sparsity *s, int block, const struct cp_piece *p, int pieces,
                   int head_ranks, struct arena *a)
{
    double *load = ARENA_ARRAY(a, double, head_ranks), sum = 0, most = 0;
    for (int i = 0; i < pieces; i++) {
        load[p[i].head_rank] += p[i].share * sparsity_keep(s, block, p[i].head);
        sum += p[i].share * sparsity_keep(s, block, p[i].head);
    }
    for (int g = 0; g < head_ranks; g++)
        most = fmax(most, load[g]);
    return most * head_ranks / sum;
}

static void explain_heads(const struct explain *x, int block, const struct cp_conf *conf)
{
    const struct sparsity *s = x->r->c.sparsity;
    if (cp_head_ranks(conf) < 2 || !conf->sparse)
        return;
    int ranks = cp_head_ranks(conf);
    double even =
        skew(s, block, cp_pieces_even(s->heads, ranks, x->scratch), s->heads, ranks, x->scratch);
    double chosen = skew(s, block, conf->pieces, conf->piece_count, ranks, x->scratch);
    int split = conf->piece_count - s->heads;
    fprintf(x->out,
            "  Heads: the busiest head rank has %.2fx the mean work (%.2fx with heads in order)",
            chosen, even);
    if (split > 0)
        fprintf(x->out, ", %d extra piece%s from split heads", split, split > 1 ? "s" : "");
    if (conf->assign_gap >= 0.00005) /* less is printed as nothing */
        fprintf(x->out, "; the optimum is at most %.2f%% better", 100 * conf->assign_gap);
    fputs(".\n", x->out);
}

/* ---- the union at which the choice flips ---- */

static bool fetches_rows(const struct plan_candidate *c)
{
    return c->conf.sparse && c->conf.seq_groups > 1 &&
           cp_strategies[c->conf.strategy].move == MOVE_ROWS;
}

/* Does a configuration that fetches rows win if every head's union is `u`? */
static bool rows_win(const struct explain *x, int block, double u)
{
    struct sparsity s = *x->r->c.sparsity;
    struct plan_request r = *x->r;
    struct plan_compared c;
    struct err e = {0};
    s.model = (struct union_model){.kind = UNION_FIXED, .fixed = u};
    r.c.sparsity = &s;
    r.keep_candidates = 1;
    return plan_compare_block(&r, x->f->plan->cp, block, &c, x->scratch, &e) && c.count > 0 &&
           fetches_rows(&c.best[0]);
}

static double mean_union(const struct explain *x, int block, int seq_groups)
{
    const struct cp_case *c = &x->r->c;
    int64_t tokens = dit_attention_tokens(c->model, block, c->video_tokens);
    double sum = 0;
    for (int h = 0; h < c->model->heads; h++)
        sum +=
            sparsity_union(c->sparsity, block, h, tokens, c->grid, seq_groups, x->r->query_group);
    return sum / c->model->heads;
}

static double mean_keep(const struct sparsity *s, int block)
{
    double sum = 0;
    for (int h = 0; h < s->heads; h++)
        sum += sparsity_keep(s, block, h);
    return sum / s->heads;
}

static void explain_union(const struct explain *x, int block)
{
    char model[64];
    int cp = x->f->plan->cp;
    double low = mean_keep(x->r->c.sparsity, block), high = 1;
    if (cp < 2 || low >= 1)
        return;
    fprintf(x->out,
            "  Union: heads keep %.1f%% of their keys, but a rank of %d would fetch %.1f%% of the "
            "others' rows (%s).\n",
            100 * low, cp, 100 * mean_union(x, block, cp),
            union_text(&x->r->c.sparsity->model, model, sizeof model));
    if (!rows_win(x, block, low)) {
        fputs("    Fetching only needed rows does not win at any union.\n", x->out);
        return;
    }
    if (rows_win(x, block, 1)) {
        fputs("    Fetching needed rows wins at every union.\n", x->out);
        return;
    }
    while (high - low > 1e-3) {
        double mid = 0.5 * (low + high);
        *(rows_win(x, block, mid) ? &low : &high) = mid;
    }
    fprintf(x->out, "    Fetching only needed rows wins below a union of %.1f%%.\n", 100 * low);
}

/* ---- DSV's solver ---- */

static struct dsv_case dsv_case_of(const struct explain *x, int block, double *sparsity)
{
    const struct hw_cluster *k = x->r->c.cluster;
    const struct dit_model *m = x->r->c.model;
    for (int h = 0; h < m->heads; h++)
        sparsity[h] = 1 - sparsity_keep(x->r->c.sparsity, block, h);
    return (struct dsv_case){
        .flop_per_s = 2 * k->gpu.bf16_flop_per_s, /* its tests give the 2:4 sparse peak */
        .compute_efficiency = 0.3,
        .comm_efficiency = 0.7,
        .near_bytes_per_s = k->nvlink.bytes_per_s,
        .far_bytes_per_s = k->nic.bytes_per_s,
        .scp_overhead_s = 0.5e-3,
        .memory_bytes = 0.8 * k->gpu.memory_bytes,
        .gpus = x->f->plan->cp,
        .gpus_per_node = k->gpus_per_node,
        .heads = m->heads,
        .head_dim = m->head_dim,
        .tokens = dit_attention_tokens(m, block, x->r->c.video_tokens),
        .sparsity = sparsity};
}

/* What our evaluator says of its pick; 0 when there is no such configuration. */
static double price_of_pick(const struct explain *x, int block, const struct dsv_pick *pick)
{
    struct plan_request r = *x->r;
    struct plan_compared c;
    struct err e = {0};
    r.dispatch = DISPATCH_SPARSE;
    r.head_groups = pick->head_groups;
    r.seq_groups = pick->seq_groups;
    r.keep_candidates = 1;
    bool strategies[CP_STRATEGIES] = {[CP_HCP] = true, [CP_SCP] = true, [CP_HYBRID] = true};
    r.strategies = strategies;
    if (!plan_compare_block(&r, x->f->plan->cp, block, &c, x->scratch, &e) || c.count == 0)
        return 0;
    return plan_candidate_s(&c.best[0]);
}

static void explain_dsv_defects(const struct explain *x, int block, const struct dsv_case *d,
                                const struct dsv_pick *pick)
{
    FILE *out = x->out;
    if (pick->seq_groups > 1)
        fprintf(
            out, "    - it prices fetched rows by the keep ratio, %.1f%%; the union is %.1f%%\n",
            100 * mean_keep(x->r->c.sparsity, block), 100 * mean_union(x, block, pick->seq_groups));
    if (d->gpus <= d->gpus_per_node) {
        struct dsv_case mended = *d;
        mended.mended = true;
        for (int g = 2; g < d->gpus; g++)
            if (d->gpus % g == 0) {
                double as_is = dsv_estimate(d, g, d->gpus / g).comm_s,
                       right = dsv_estimate(&mended, g, d->gpus / g).comm_s;
                fprintf(out,
                        "    - it bills %dx%d inside one node at NIC rate: %s of exchange where "
                        "its own formulas give %s\n",
                        g, d->gpus / g, TIME(as_is), TIME(right));
                break;
            }
    }
    if ((double)d->tokens * d->heads * d->head_dim > 2147483647.0)
        fputs("    - tokens x heads x width passes 2^31 and wraps in its 32-bit volume\n", out);
    fputs(
        "    - it counts the forward only: no backward, recompute, selection, packing or latency\n",
        out);
    fprintf(out, "    - it takes %s for compute; this profile's sparse kernels reach %s forward\n",
            qty_text(d->flop_per_s * d->compute_efficiency, QTY_FLOP_PER_S, QTY_BUF),
            qty_text(4.0 * 128 / x->r->c.kernels->sparse.forward_pair_s, QTY_FLOP_PER_S, QTY_BUF));
}

static void explain_dsv(const struct explain *x, int block)
{
    double *sparsity = ARENA_ARRAY(x->scratch, double, x->r->c.model->heads);
    if (x->f->plan->cp < 2 || x->f->plan->tensor > 1 || mean_keep(x->r->c.sparsity, block) >= 1)
        return;
    struct dsv_case d = dsv_case_of(x, block, sparsity);
    struct dsv_pick pick = dsv_choose(&d);
    const struct plan_block *b = &x->f->plan->blocks[block];
    if (pick.head_groups == 0) {
        fputs("  DSV's released solver finds no configuration: its memory formula lacks /g_s and "
              "/N.\n",
              x->out);
        return;
    }
    bool same = pick.head_groups == b->conf.head_groups && pick.seq_groups == b->conf.seq_groups &&
                b->conf.sparse;
    double price = price_of_pick(x, block, &pick);
    fprintf(x->out, "  DSV's released solver would take %dx%d%s and expect %s of attention forward",
            pick.head_groups, pick.seq_groups, same ? " too" : "", TIME(pick.total_s));
    if (price > 0)
        fprintf(x->out, "; by our costs that takes %s, %.2fx the plan's", TIME(price),
                price / plan_candidate_s(&x->f->compared[block].best[0]));
    fputs(":\n", x->out);
    explain_dsv_defects(x, block, &d, &pick);
}

/* ---- all ---- */

static void explain_breakeven(const struct explain *x)
{
    const struct cp_case *c = &x->r->c;
    double tokens = (double)dit_attention_tokens(c->model, 0, c->video_tokens);
    bool again = c->options.checkpointing == CHECKPOINT_FULL;
    const struct kern_dense *dense[2] = {&c->kernels->dense, &c->kernels->best};
    for (int i = 0; i < 2; i++) {
        double s = kern_breakeven(c->kernels, dense[i], &c->cluster->gpu, tokens,
                                  c->model->head_dim, x->r->query_group, again);
        if (i == 1 && strcmp(dense[0]->name, dense[1]->name) == 0)
            break;
        if (s <= 1)
            fprintf(x->out,
                    "Break-even: %s beats dense %s above %.1f%% sparsity, exchanges aside.\n",
                    c->kernels->sparse.name, dense[i]->name, 100 * s);
        else
            fprintf(x->out, "Break-even: %s never beats dense %s.\n", c->kernels->sparse.name,
                    dense[i]->name);
    }
}

static bool same_conf(const struct cp_conf *a, const struct cp_conf *b)
{
    char ta[96], tb[96];
    return strcmp(cp_conf_text(a, ta, sizeof ta), cp_conf_text(b, tb, sizeof tb)) == 0;
}

/* The first block of each configuration stands for the others; it is the one that is explained. */
static bool explained_before(const struct plan *p, int block)
{
    for (int b = 0; b < block; b++)
        if (same_conf(&p->blocks[b].conf, &p->blocks[block].conf))
            return true;
    return false;
}

/* A step with one strategy in all blocks, at the plan's degree; a line, or nothing where it has no
 * configuration. */
static void explain_alone(const struct explain *x, enum cp_strategy strategy)
{
    bool only[CP_STRATEGIES] = {false};
    struct plan_request r = *x->r;
    struct plan_found f;
    struct err e = {0};
    only[strategy] = true;
    r.cp = x->f->plan->cp;
    r.strategies = only;
    r.alike = ALIKE_NO;
    r.keep_candidates = r.rerank ? r.keep_candidates : 1;
    bool found = plan_search(&r, &f, x->scratch, &e);
    if (!found && e.code != ERR_INFEASIBLE)
        return;
    fprintf(x->out, "  %-13s ", cp_strategies[strategy].name);
    if (found)
        fprintf(x->out, "%9s  %+.1f%%\n", TIME(f.plan->batch.step_s),
                100 * (f.plan->batch.step_s / x->f->plan->batch.step_s - 1));
    else
        fputs("does not fit\n", x->out);
}

/* Moving blocks needs skew, fetching the rows that are needed needs some that are not. */
static bool worth_showing(const struct explain *x, enum cp_strategy s)
{
    const struct sparsity *of = x->r->c.sparsity;
    double least = 1;
    for (int i = 0; i < of->blocks * of->heads; i++)
        least = fmin(least, of->keep[i]);
    return cp_strategies[s].permutes            ? of->shard_skew > 1
           : cp_strategies[s].move == MOVE_ROWS ? least < 1
                                                : true;
}

/* What a single strategy would take, whichever were asked for. */
static void explain_strategies(const struct explain *x)
{
    if (x->f->plan->cp < 2)
        return;
    fprintf(x->out, "One strategy in all blocks, at CP %d:\n", x->f->plan->cp);
    for (int s = 0; s < CP_STRATEGIES; s++)
        if (worth_showing(x, (enum cp_strategy)s))
            explain_alone(x, (enum cp_strategy)s);
}

void plan_explain(const struct plan_request *r, const struct plan_found *f, FILE *out,
                  struct arena *scratch)
{
    struct explain x = {r, f, out, scratch};
    explain_breakeven(&x);
    explain_degrees(&x);
    explain_strategies(&x);
    for (int b = 0; b < f->plan->block_count; b++) {
        if (explained_before(f->plan, b))
            continue;
        int like = 0;
        for (int k = b; k < f->plan->block_count; k++)
            like += same_conf(&f->plan->blocks[k].conf, &f->plan->blocks[b].conf);
        fprintf(out, "\nBlock %d (and %d like it):\n", b, like - 1);
        explain_winner(&x, &f->compared[b]);
        explain_doubt(&x, &f->compared[b]);
        explain_heads(&x, b, &f->plan->blocks[b].conf);
        explain_union(&x, b);
        explain_dsv(&x, b);
    }
}
