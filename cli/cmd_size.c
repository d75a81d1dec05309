/* size: the fewest GPUs of a cluster that a model and clip fit on and, if asked, that are fast
 * enough. Tries the counts that a cluster can lend - equal parts of a node, then whole nodes - from
 * few to many, and says of each what it would take or what is short. */
#include <math.h>

#include "cli/whatif.h"

static const struct arg_group size_options = {
    "The run",
    (const struct arg_option[]){
        OPTION_QTY("train-samples", QTY_NUMBER, "N", "samples to train on: 1M"),
        OPTION_QTY("within", QTY_SECONDS, "TIME", "with --train-samples: the time there is: 30 d"),
        OPTION_FLAG("all", "show every count of the cluster, not only up to the answer"),
        OPTION_END}};

enum { NODES_MOST = 4096 };

struct size {
    struct cli *c;
    struct plan_limits limits;
    double train_samples; /* 0: not asked */
    int count, answer;    /* counts tried; index of the answer, -1: none */
    struct plan_fit *tried;
};

/* The throughput that a run in time needs joins --min-rate. */
static bool read_limits(struct size *s, struct err *e)
{
    const struct args *g = s->c->args;
    s->limits = whatif_limits(g);
    s->train_samples = args_qty_or(g, "train-samples", 0);
    if (!args_given(g, "within"))
        return true;
    double within = args_qty_or(g, "within", 0);
    if (s->train_samples <= 0 || within <= 0)
        return err_set(e, ERR_INPUT, args_at(g, within > 0 ? "train-samples" : "within"),
                       "want both --train-samples and --within above 0, such as --train-samples 1M "
                       "--within 30d");
    s->limits.samples_per_s = fmax(s->limits.samples_per_s, s->train_samples / within);
    return true;
}

static bool try_count(struct size *s, int gpus, struct err *e)
{
    struct plan_request r;
    struct plan_fit *f = &s->tried[s->count++];
    struct arena *a = s->c->scratch;
    struct err refused = {0};
    arena_reset(a);
    struct arg_setting set = {"gpus", arena_printf(a, "%d", gpus)};
    whatif_progress(arena_printf(a, "%d GPUs", gpus));
    if (whatif_request(s->c, &set, 1, a, &r, &refused))
        return plan_fit(&r, &s->limits, f, a, e);
    if (refused.code != ERR_INPUT) {
        *e = refused;
        return false;
    }
    *f = (struct plan_fit){.verdict = FIT_IMPOSSIBLE, .gpus = gpus};
    snprintf(f->reason, sizeof f->reason, "%s", refused.text);
    return true;
}

/* Ascending: divisors of a node, then whole nodes. --gpus bounds it. */
static bool try_counts(struct size *s, const struct hw_cluster *cluster, struct err *e)
{
    int node = cluster->gpus_per_node, most = hw_gpus(cluster);
    bool all = args_given(s->c->args, "all");
    if (cluster->nodes > NODES_MOST)
        return err_set(e, ERR_INPUT, args_at(s->c->args, "cluster"),
                       "%d nodes are too many to try one by one; at most %d, or bound them with "
                       "--gpus",
                       cluster->nodes, NODES_MOST);
    s->answer = -1;
    s->tried = ARENA_ARRAY(s->c->a, struct plan_fit, node + cluster->nodes);
    for (int gpus = 1; gpus <= most; gpus += gpus < node ? 1 : node) {
        if (gpus < node && node % gpus != 0)
            continue;
        if (!try_count(s, gpus, e))
            return false;
        if (s->tried[s->count - 1].verdict == FIT_YES && s->answer < 0)
            s->answer = s->count - 1;
        if (s->answer >= 0 && !all)
            break;
    }
    whatif_progress(NULL);
    return true;
}

/* The count that came nearest: the fastest of those that fit, else the least short. NULL when all
 * were impossible. */
static const struct plan_fit *nearest(const struct size *s)
{
    const struct plan_fit *best = NULL;
    for (int i = 0; i < s->count; i++) {
        const struct plan_fit *f = &s->tried[i];
        if (f->verdict == FIT_IMPOSSIBLE)
            continue;
        bool better = !best || f->verdict < best->verdict;
        if (best && f->verdict == best->verdict)
            better = f->verdict == FIT_MEMORY ? fit_short(f) < fit_short(best)
                     : s->limits.step_s > 0   ? f->step.value_s < best->step.value_s
                                              : f->samples_per_s > best->samples_per_s;
        best = better ? f : best;
    }
    return best;
}

/* ---- output ---- */

/* Text without a --train-samples. */
static const struct table_col short_columns[] = {WHATIF_COLUMNS,
                                                 {"verdict", "verdict", TABLE_STR, 0}};

static const struct table_col columns[] = {WHATIF_COLUMNS,
                                           {"train_s", "whole run", TABLE_QTY, QTY_SECONDS},
                                           {"verdict", "verdict", TABLE_STR, 0},
                                           {"reason", "why not", TABLE_STR, 0},
                                           WHATIF_MORE_COLUMNS};
enum { COLUMNS = sizeof columns / sizeof *columns, TEXT_COLUMNS = 11 };

static const char *verdict(const struct size *s, int i)
{
    static const char *const words[] = {[FIT_YES] = "enough",
                                        [FIT_SLOW] = "too slow",
                                        [FIT_MEMORY] = "does not fit",
                                        [FIT_IMPOSSIBLE] = "impossible"};
    return i == s->answer ? "fewest" : words[s->tried[i].verdict];
}

/* In text the reason takes the verdict's place. */
static struct table *counts_table(const struct size *s, bool text)
{
    bool runs = !text || s->train_samples > 0;
    struct table *t = runs ? table_new(s->c->a, columns, text ? TEXT_COLUMNS : COLUMNS)
                           : table_new(s->c->a, short_columns, TEXT_COLUMNS - 1);
    for (int i = 0; i < s->count; i++) {
        const struct plan_fit *f = &s->tried[i];
        double run_s = f->samples_per_s > 0 ? s->train_samples / f->samples_per_s : 0;
        whatif_cells(f, t);
        if (runs)
            table_num(t, run_s > 0 ? run_s : NAN);
        table_str(t, text && *f->reason ? f->reason : verdict(s, i));
        if (text)
            continue;
        table_str(t, *f->reason ? f->reason : NULL);
        whatif_more_cells(f, t);
    }
    return t;
}

static void put_targets(const struct size *s, FILE *out)
{
    const struct plan_limits *l = &s->limits;
    if (l->step_s > 0)
        fprintf(out, ", a step in %s", qty_text(l->step_s, QTY_SECONDS, QTY_BUF));
    if (l->samples_per_s > 0)
        fprintf(out, ", %s samples/s", qty_text(l->samples_per_s, QTY_NUMBER, QTY_BUF));
    if (l->sure && (l->step_s > 0 || l->samples_per_s > 0))
        fprintf(out, " (at the slow end of the interval)");
}

static void put_answer(const struct size *s, const struct plan_request *r, FILE *out)
{
    struct arena *a = s->c->a;
    fprintf(out, "%s, %s tokens on %s", r->c.model->name,
            qty_text((double)r->c.video_tokens, QTY_NUMBER, QTY_BUF), r->c.cluster->name);
    put_targets(s, out);
    if (s->answer < 0) {
        fprintf(out, ": no count of GPUs up to %d will do.\n", hw_gpus(r->c.cluster));
        return;
    }
    const struct plan_fit *f = &s->tried[s->answer];
    fprintf(out,
            ": %d GPU%s; %sCP %d, %d replica%s, %sa step takes %s%s, %s samples/s; %s of %s a GPU.\n",
            f->gpus, f->gpus == 1 ? "" : "s", whatif_tensor(r, a), f->cp, f->replicas,
            f->replicas == 1 ? "" : "s", whatif_batch(r, f, a), qty_text(f->step.value_s, QTY_SECONDS, QTY_BUF),
            whatif_range(&f->step, a), qty_text(f->samples_per_s, QTY_NUMBER, QTY_BUF),
            qty_text(f->memory.total, QTY_BYTES, QTY_BUF),
            qty_text(f->memory_limit, QTY_BYTES, QTY_BUF));
    if (s->train_samples > 0)
        fprintf(out, "%s samples take %s.\n", qty_text(s->train_samples, QTY_NUMBER, QTY_BUF),
                qty_text(s->train_samples / f->samples_per_s, QTY_SECONDS, QTY_BUF));
    whatif_limiting(f, out);
    if (s->answer > 0)
        fprintf(out, "Fewer will not do: with %d, %s.\n", s->tried[s->answer - 1].gpus,
                s->tried[s->answer - 1].reason);
}

static void print_text(const struct size *s, const struct plan_request *r, FILE *out)
{
    prov_comment(s->c->prov, out);
    put_answer(s, r, out);
    fputc('\n', out);
    table_print(counts_table(s, true), TABLE_TEXT, out);
}

static bool print_all(struct size *s, const struct plan_request *r, struct err *e)
{
    FILE *out = cli_out(s->c, e);
    if (!out)
        return false;
    if (s->c->format == TABLE_TEXT)
        print_text(s, r, out);
    else
        cli_table(s->c, counts_table(s, false), "counts", out);
    return cli_finish(s->c, e);
}

static bool run(struct cli *c, struct err *e)
{
    struct size s = {.c = c};
    struct plan_request r;
    const struct hw_cluster *cluster = workload_cluster(c, e);
    if (!cluster || !read_limits(&s, e) || !try_counts(&s, cluster, e))
        return false;
    const struct plan_fit *near = nearest(&s);
    if (!near)
        return err_set(e, ERR_INPUT, err_at_name(NULL), "%s", s.tried[s.count - 1].reason);
    struct arg_setting set = {"gpus", arena_printf(c->a, "%d", near->gpus)};
    if (!whatif_request(c, &set, 1, c->a, &r, e))
        return false;
    r.c.cluster = cluster; /* the whole one, for the first line */
    if (!print_all(&s, &r, e) || s.answer >= 0)
        return e->code == ERR_NONE;
    return err_set(e, ERR_INFEASIBLE, err_at_name(NULL),
                   "%s with up to %d GPUs; nearest: %d GPUs, %s",
                   near->verdict == FIT_MEMORY ? "it does not fit" : "it is not fast enough",
                   hw_gpus(cluster), near->gpus, near->reason);
}

const struct command cmd_size = {
    .name = "size",
    .brief = "find the fewest GPUs that fit, and that are fast enough",
    .usage = "--model M --cluster C (--clip HxWxF | --grid TxHxW | --tokens S) [--max-step TIME | "
             "--min-rate RATE | --train-samples N --within TIME] [options]",
    .example = "shardwise size --model hunyuanvideo-13b --cluster 8x8-h100 --clip 720x1280x129 "
               "--max-step 12s\n"
               "shardwise size --model wan2.1-14b --cluster 16x8-h200 --clip 720x1280x81 "
               "--train-samples 1M --within 30d",
    .about =
        "Goes through the numbers of GPUs that the cluster can lend, equal parts of a node and "
        "then whole nodes, from few to many, and stops at the first on which the model and "
        "clip fit and that keeps the targets. For each it says the CP degree and split, the "
        "time of a step with its 90% interval, throughput and memory, or what is short: part, "
        "rank and block. --cluster is the most there is; --gpus bounds it further. Of the CP "
        "degrees that keep the targets the best throughput is taken, as `plan` does. Exit "
        "status 3 when no number will do, with the nearest miss.",
    .groups = (const struct arg_group *const[]){&workload_clip, &workload_place, &workload_sparsity,
                                                &workload_training, &whatif_eval, &whatif_target,
                                                &size_options, &cli_output_options, NULL},
    .run = run,
};
