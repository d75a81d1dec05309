/* memory: what a GPU's memory is used for, part by part, for each CP degree; and how long it would
 * take. */
#include <math.h>

#include "cli/workload.h"

/* One CP degree: its peak, fitting or not, and its time if it fits. */
struct degree {
    int cp;
    bool fits, tried;
    struct cp_conf conf;
    struct mem_use memory;
    double step_s, samples_per_s;
};

/* The peak of what was found, or the block that was nearest to fitting. */
static void degree_take(const struct plan_found *f, bool fits, struct degree *d)
{
    const struct plan *p = f->plan;
    d->fits = fits;
    d->tried = true;
    if (fits) {
        d->memory = p->memory_peak;
        d->conf = p->blocks[d->memory.block].conf;
        d->step_s = f->degrees[0].step_s;
        d->samples_per_s = f->degrees[0].samples_per_s;
        return;
    }
    for (int b = 0; b < p->block_count; b++)
        if (f->compared[b].tried > 0 && f->compared[b].count == 0) {
            d->memory = f->compared[b].nearest.memory;
            d->conf = f->compared[b].nearest.conf;
        }
}

/* ERR_INFEASIBLE is an answer here; a degree that no strategy can have is left out. */
static bool look_at(const struct plan_request *r, int cp, struct degree *d, struct arena *a,
                    struct err *e)
{
    struct plan_request one = *r;
    struct plan_found f;
    struct err found = {0};
    one.cp = cp;
    one.keep_candidates = 1;
    *d = (struct degree){.cp = cp};
    bool ok = plan_search(&one, &f, a, &found);
    if (ok || found.code == ERR_INFEASIBLE)
        degree_take(&f, ok, d);
    else if (r->cp || found.code != ERR_INPUT) {
        *e = found;
        return false;
    }
    return true;
}

static bool possible(const struct plan_request *r, int cp)
{
    int gpus = hw_gpus(r->c.cluster) / r->tensor, node = r->c.cluster->gpus_per_node / r->tensor;
    return r->cp ? cp == r->cp : gpus % cp == 0 && (node % cp == 0 || cp % node == 0);
}

static bool look_at_all(const struct plan_request *r, struct degree *d, int *count, struct arena *a,
                        struct err *e)
{
    int gpus = hw_gpus(r->c.cluster);
    *count = 0;
    for (int cp = 1; cp <= gpus; cp++) {
        if (!possible(r, cp))
            continue;
        if (!look_at(r, cp, &d[*count], a, e))
            return false;
        *count += d[*count].tried;
    }
    if (*count == 0)
        return err_set(e, ERR_INPUT, err_at_name("--cp"),
                       "no degree is possible with %d GPUs in nodes of %d", gpus,
                       r->c.cluster->gpus_per_node);
    return true;
}

/* The best that fits, by throughput; else the one that needs least. */
static const struct degree *chosen(const struct degree *d, int count)
{
    const struct degree *best = &d[0];
    for (int i = 1; i < count; i++) {
        bool better = d[i].fits != best->fits ? d[i].fits
                      : d[i].fits             ? d[i].samples_per_s > best->samples_per_s
                                              : d[i].memory.total < best->memory.total;
        best = better ? &d[i] : best;
    }
    return best;
}

static struct table *degrees_table(struct cli *c, const struct plan_request *r,
                                   const struct degree *d, int count)
{
    static const struct table_col cols[] = {{"cp", "CP", TABLE_INT, 0},
                                            {"replicas", "replicas", TABLE_INT, 0},
                                            {"memory_bytes", "memory", TABLE_QTY, QTY_BYTES},
                                            {"fits", "fits", TABLE_STR, 0},
                                            {"step_s", "step", TABLE_QTY, QTY_SECONDS},
                                            {"samples_per_s", "samples/s", TABLE_QTY, QTY_NUMBER},
                                            {"limiting", "largest part", TABLE_STR, 0},
                                            {"configuration", "configuration", TABLE_STR, 0}};
    struct table *t = table_new(c->a, cols, sizeof cols / sizeof *cols);
    char conf[96];
    for (int i = 0; i < count; i++) {
        int replicas = hw_gpus(r->c.cluster) / r->tensor / d[i].cp;
        table_int(t, d[i].cp);
        table_int(t, replicas);
        table_num(t, d[i].memory.total);
        table_str(t, d[i].fits ? "yes" : "no");
        table_num(t, d[i].fits ? d[i].step_s : NAN);
        table_num(t, d[i].fits ? d[i].samples_per_s : NAN);
        table_str(t, mem_part_names[mem_limiting(&d[i].memory)]);
        table_str(t, cp_conf_text(&d[i].conf, conf, sizeof conf));
    }
    return t;
}

static struct table *parts_table(struct cli *c, const struct degree *d)
{
    static const struct table_col cols[] = {{"part", "part", TABLE_STR, 0},
                                            {"bytes", "size", TABLE_QTY, QTY_BYTES},
                                            {"share", "share", TABLE_QTY, QTY_RATIO},
                                            {"bar", "", TABLE_BAR, 0}};
    struct table *t = table_new(c->a, cols, 4);
    for (int p = 0; p < MEM_PARTS; p++) {
        table_str(t, mem_part_names[p]);
        table_num(t, d->memory.part[p]);
        table_num(t, d->memory.part[p] / d->memory.total);
        table_num(t, d->memory.part[p] / d->memory.total);
    }
    return t;
}

struct memory {
    const struct plan_request *r;
    const struct degree *best;
};

static void put_words(const void *data, FILE *out)
{
    const struct memory *k = data;
    const struct plan_request *r = k->r;
    const struct degree *best = k->best;
    double limit = r->c.cluster->gpu.memory_bytes;
    const struct mem_use *m = &best->memory;
    fprintf(out, "%s, %s tokens on %s: ", r->c.model->name,
            qty_text((double)r->c.video_tokens, QTY_NUMBER, QTY_BUF), r->c.cluster->name);
    if (r->tensor > 1)
        fprintf(out, "TP %d, ", r->tensor);
    fprintf(out, "CP %d needs %s of %s a GPU", best->cp, qty_text(m->total, QTY_BYTES, QTY_BUF),
            qty_text(limit, QTY_BYTES, QTY_BUF));
    if (best->fits)
        fprintf(out, " and takes %s a step.\n", qty_text(best->step_s, QTY_SECONDS, QTY_BUF));
    else
        fprintf(out, ": %s short.\n", qty_text(m->total - limit, QTY_BYTES, QTY_BUF));
    fprintf(out, "Rank %d at block %d needs most:\n", m->rank, m->block);
}

static bool answer(struct cli *c, const struct plan_request *r, const struct degree *best,
                   const struct table *degrees, struct err *e)
{
    const struct memory k = {r, best};
    const struct cli_fact facts[] = {{"cp", best->cp},
                                     {"rank", best->memory.rank},
                                     {"block", best->memory.block},
                                     {"total_bytes", best->memory.total},
                                     {0}};
    const struct cli_part parts[] = {
        {"parts", NULL, parts_table(c, best)}, {"degrees", NULL, degrees}, {0}};
    return cli_answer(c, &(struct cli_answer){put_words, &k, facts, parts, degrees}, e);
}

static bool run(struct cli *c, struct err *e)
{
    struct plan_request r;
    int count;
    if (!workload_request(c, &r, e))
        return false;
    struct degree *d = ARENA_ARRAY(c->a, struct degree, hw_gpus(r.c.cluster) + 1);
    if (!look_at_all(&r, d, &count, c->a, e))
        return false;
    const struct degree *best = chosen(d, count);
    const struct table *degrees = degrees_table(c, &r, d, count);
    if (!answer(c, &r, best, degrees, e))
        return false;
    if (!cli_finish(c, e) || best->fits)
        return e->code == ERR_NONE;
    double limit = r.c.cluster->gpu.memory_bytes;
    return err_set(e, ERR_INFEASIBLE, err_at_name(NULL),
                   "it does not fit: %s short with CP %d, largest part %s%s",
                   qty_text(best->memory.total - limit, QTY_BYTES, QTY_BUF), best->cp,
                   mem_part_names[mem_limiting(&best->memory)], plan_no_hope(&best->memory, limit));
}

const struct command cmd_memory = {
    .name = "memory",
    .brief = "say what a GPU's memory is used for, and which CP degrees fit",
    .usage = "--model M --cluster C (--clip HxWxF | --grid TxHxW | --tokens S) [options]",
    .example = "shardwise memory --model hunyuanvideo-13b --cluster 4x8-h100 --clip 720x1280x129",
    .about = "Takes the fastest configuration that fits at each degree of context parallelism and "
             "lists the memory of the GPU that "
             "needs most, part by part, with the time of a step. A degree that does not fit is "
             "shown with the configuration "
             "that comes nearest. Exit status 3 when none fits.",
    .groups = (const struct arg_group *const[]){&workload_clip, &workload_place, &workload_sparsity,
                                                &workload_training, &cli_output_options, NULL},
    .run = run,
};
