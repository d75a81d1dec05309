#include "validate/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- measured: per repeat the longest over ranks ---- */

struct repeats { /* of one block */
    int count, ranks;
    const struct run_row *rows;
    int row_count;
    double *sum; /* [count][ranks] */
};

static int by_value(const void *x, const void *y)
{
    double a = *(const double *)x, b = *(const double *)y;
    return a < b ? -1 : a > b;
}

/* Copies that the model has beside the work of a block; here they are carried out by themselves, so
 * they are no part of a whole block. */
static bool is_beside(const char *phase)
{
    static const char *const names[] = {"offload indices", "fetch indices", "offload kv",
                                        "fetch kv"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(phase, names[i]) == 0)
            return true;
    return false;
}

/* phase NULL: all phases with their waits. */
static void measure(const struct repeats *m, int pass, const char *phase, double *median,
                    double *least, double *most, struct arena *a)
{
    double *longest = ARENA_ARRAY(a, double, m->count);
    memset(m->sum, 0, (size_t)m->count * (size_t)m->ranks * sizeof *m->sum);
    for (int i = 0; i < m->row_count; i++) {
        const struct run_row *r = &m->rows[i];
        bool counts =
            phase ? r->pass == pass && strcmp(r->phase, phase) == 0 : !is_beside(r->phase);
        if (r->repeat < m->count && counts)
            m->sum[r->repeat * m->ranks + r->rank] += r->seconds + (phase ? 0 : r->wait_s);
    }
    for (int k = 0; k < m->count; k++)
        for (int i = 0; i < m->ranks; i++)
            longest[k] = fmax(longest[k], m->sum[k * m->ranks + i]);
    qsort(longest, (size_t)m->count, sizeof *longest, by_value);
    *median = longest[m->count / 2], *least = longest[0], *most = longest[m->count - 1];
}

/* ---- the least time that the hardware of the plan allows ---- */

static double bound_of(const struct plan *p, const struct run_row *r)
{
    const struct hw_cluster *c = p->c.cluster;
    double flop = (r->pass == PASS_BACKWARD ? 10.0 : 4.0) * r->work * p->c.model->head_dim;
    double link = fmax(c->nvlink.bytes_per_s, c->nic.bytes_per_s);
    switch (r->cost) {
    case CLASS_ATTENTION_DENSE:
    case CLASS_ATTENTION_SPARSE:
        return flop / c->gpu.bf16_flop_per_s;
    case CLASS_COLLECTIVE:
        return fmax(r->sent, r->received) / link;
    case CLASS_GEMM:
        return r->work / c->gpu.bf16_flop_per_s;
    case CLASS_COPY:
        return r->work / c->gpu.hbm_bytes_per_s;
    default:
        return 0;
    }
}

static double longest_bound(const struct plan *p, const struct repeats *m, int pass,
                            const char *phase)
{
    double bound = 0;
    memset(m->sum, 0, (size_t)m->ranks * sizeof *m->sum);
    for (int i = 0; i < m->row_count; i++) {
        const struct run_row *r = &m->rows[i];
        if (r->repeat == 0 && r->pass == pass && strcmp(r->phase, phase) == 0)
            m->sum[r->rank] += bound_of(p, r);
    }
    for (int i = 0; i < m->ranks; i++)
        bound = fmax(bound, m->sum[i]);
    return bound;
}

/* ---- one block ---- */

struct building {
    const struct plan *p;
    struct arena *a;
    struct compare_phase *phases;
    int count, room;
};

static struct compare_phase *phase_at(struct building *b, int block, int pass, const char *name)
{
    for (int i = b->count - 1; i >= 0 && b->phases[i].block == block; i--)
        if (b->phases[i].pass == pass && strcmp(b->phases[i].name, name) == 0)
            return &b->phases[i];
    if (b->count == b->room) {
        b->room = 2 * b->room + 64;
        struct compare_phase *more = ARENA_ARRAY(b->a, struct compare_phase, b->room);
        if (b->count)
            memcpy(more, b->phases, (size_t)b->count * sizeof *more);
        b->phases = more;
    }
    struct compare_phase *x = &b->phases[b->count++];
    *x = (struct compare_phase){.block = block,
                                .pass = pass,
                                .name = name,
                                .predicted_s = (double)NAN,
                                .measured_s = (double)NAN,
                                .least_s = (double)NAN,
                                .most_s = (double)NAN};
    return x;
}

/* The model's phases first, in its order; their critical time comes back by phase. */
static double *add_predicted(struct building *b, int block)
{
    const struct plan_block *k = &b->p->blocks[block];
    struct cp_program program = cp_program_of(&b->p->c, block, &k->conf, b->a);
    double *critical = ARENA_ARRAY(b->a, double, program.phase_count + 1);
    int first = b->count;
    for (int i = 0; i < program.phase_count && i < k->time.phase_count; i++) {
        struct compare_phase *x =
            phase_at(b, block, (int)program.phases[i].pass, program.phases[i].name);
        double before = isnan(x->predicted_s) ? 0 : x->predicted_s;
        x->predicted_s = before + k->time.phase[i].busy_max_s;
        critical[x - (b->phases + first)] += k->time.phase[i].critical_s;
    }
    return critical;
}

static void find_culprit(const struct building *b, int first, struct compare_block *k)
{
    double sum = 0, most = -1;
    k->culprit = -1;
    for (int i = first; i < b->count; i++) {
        double measured = isnan(b->phases[i].measured_s) ? 0 : b->phases[i].measured_s;
        double difference =
            fabs(measured - (isnan(b->phases[i].predicted_s) ? 0 : b->phases[i].predicted_s));
        if (isnan(b->phases[i].measured_s) || is_beside(b->phases[i].name))
            continue; /* not run, or no part of the block's time */
        sum += difference;
        if (difference > most)
            most = difference, k->culprit = i;
    }
    k->culprit_share = sum > 0 ? most / sum : 0;
}

static void compare_block(struct building *b, const struct repeats *m, int block,
                          struct compare_block *k)
{
    int first = b->count;
    double *critical = add_predicted(b, block);
    int predicted = b->count - first;
    for (int i = 0; i < m->row_count; i++)
        if (m->rows[i].repeat == 0)
            phase_at(b, block, m->rows[i].pass, m->rows[i].phase);
    *k = (struct compare_block){.block = block};
    for (int i = first; i < b->count; i++) {
        struct compare_phase *x = &b->phases[i];
        bool run = false;
        for (int r = 0; r < m->row_count && !run; r++)
            run = m->rows[r].pass == x->pass && strcmp(m->rows[r].phase, x->name) == 0;
        if (!run)
            continue;
        measure(m, x->pass, x->name, &x->measured_s, &x->least_s, &x->most_s, b->a);
        x->bound_s = longest_bound(b->p, m, x->pass, x->name);
        if (i - first < predicted && !is_beside(x->name))
            k->predicted_s += critical[i - first];
    }
    measure(m, 0, NULL, &k->measured_s, &k->least_s, &k->most_s, b->a);
    find_culprit(b, first, k);
}

/* Complete repeats of the rows of one block: as many rows as the first has. */
static bool count_repeats(struct repeats *m, int ranks, int block, struct arena *a, struct err *e)
{
    int per_repeat = 0, last = -1;
    m->ranks = ranks;
    for (int i = 0; i < m->row_count; i++) {
        per_repeat += m->rows[i].repeat == 0;
        last = m->rows[i].repeat > last ? m->rows[i].repeat : last;
        if (m->rows[i].rank >= ranks)
            return err_set(e, ERR_INPUT, err_at_name("rows"), "block %d: rank %d of %d", block,
                           m->rows[i].rank, ranks);
    }
    m->count = per_repeat ? m->row_count / per_repeat
                          : 0; /* a run that was ended leaves its last repeat unfinished */
    if (m->count < 1 || last > m->count)
        return err_set(e, ERR_INPUT, err_at_name("rows"), "block %d: no complete repeat", block);
    m->sum = ARENA_ARRAY(a, double, (size_t)m->count *(size_t)ranks);
    return true;
}

bool compare_run(const struct plan *p, const struct run_result *r, uint64_t signature,
                 struct arena *a, struct comparison *out, struct err *e)
{
    struct building b = {.p = p, .a = a};
    struct compare_block *blocks = ARENA_ARRAY(a, struct compare_block, p->block_count);
    int count = 0;
    if (signature != plan_signature(p))
        return err_set(e, ERR_INPUT, err_at_name("rows"),
                       "measured with a plan of signature %016llx, this one has %016llx",
                       (unsigned long long)signature, (unsigned long long)plan_signature(p));
    for (int at = 0, next; at < r->row_count; at = next) {
        int block = r->rows[at].block;
        for (next = at; next < r->row_count && r->rows[next].block == block; next++)
            ;
        struct repeats m = {.rows = r->rows + at, .row_count = next - at};
        if (block < 0 || block >= p->block_count || count == p->block_count)
            return err_set(e, ERR_INPUT, err_at_name("rows"),
                           "block %d: the plan has blocks 0 to %d, each once", block,
                           p->block_count - 1);
        if (!count_repeats(&m, p->cp, block, a, e))
            return false;
        compare_block(&b, &m, block, &blocks[count++]);
    }
    *out = (struct comparison){
        .phase_count = b.count, .block_count = count, .phases = b.phases, .blocks = blocks};
    for (int i = 0; i < b.count; i++)
        out->impossible += b.phases[i].measured_s < 0.98 * b.phases[i].bound_s;
    return count > 0 || err_set(e, ERR_INPUT, err_at_name("rows"), "no rows");
}

bool compare_files(const char *plan, const char *rows, struct arena *a, struct comparison *out,
                   struct err *e)
{
    struct run_result r;
    struct rows_head head;
    const struct plan *p = plan_read(plan, a, e);
    if (!p || !rows_read(rows, a, &r, &head, e))
        return false;
    if (!compare_run(p, &r, head.signature, a, out, e)) {
        err_prefix(e, "%s", rows);
        return false;
    }
    out->head = head;
    return true;
}

/* ---- printing ---- */

static void add_row(struct table *t, int block, const char *pass, const char *phase,
                    double predicted, double measured, double least, double most)
{
    char error[32] = "";
    if (predicted > 0 && measured > 0)
        snprintf(error, sizeof error, "%+.0f%%", 100 * (measured / predicted - 1));
    table_int(t, block);
    table_str(t, pass);
    table_str(t, phase);
    table_num(t, predicted);
    table_num(t, measured);
    table_num(t, least);
    table_num(t, most);
    table_str(t, *error ? error : NULL);
}

void compare_turns(const struct comparison *c, FILE *out)
{
    const struct rows_head *h = &c->head;
    if (rows_take_turns(h))
        fprintf(out,
                "%d ranks of %d %s took turns on %d cores: a time holds other ranks' work too, "
                "which no prediction knows. Not judged by a tolerance.\n",
                h->ranks_here, h->threads, h->threads == 1 ? "thread" : "threads", h->cores);
}

void compare_words(const struct comparison *c, FILE *out)
{
    compare_turns(c, out);
    for (int i = 0; i < c->block_count; i++) {
        const struct compare_block *k = &c->blocks[i];
        double off = k->measured_s / k->predicted_s - 1;
        if (off > 9)
            fprintf(out, "Block %d takes %.0f times as long as predicted", k->block, off + 1);
        else
            fprintf(out, "Block %d takes %.0f%% %s than predicted", k->block, 100 * fabs(off),
                    off < 0 ? "less" : "more");
        if (k->culprit >= 0)
            fprintf(out, "; %s (%s) is %.0f%% of all differences", c->phases[k->culprit].name,
                    rows_pass_names[c->phases[k->culprit].pass], 100 * k->culprit_share);
        fputs(".\n", out);
    }
    for (int i = 0; i < c->phase_count; i++)
        if (c->phases[i].measured_s < 0.98 * c->phases[i].bound_s)
            fprintf(out,
                    "Impossible: block %d, %s: measured %.3g s, but the plan's hardware needs %.3g "
                    "s at least. Its description "
                    "is wrong, or the work was not done.\n",
                    c->phases[i].block, c->phases[i].name, c->phases[i].measured_s,
                    c->phases[i].bound_s);
}

struct table *compare_table(const struct comparison *c, struct arena *a)
{
    static const struct table_col cols[] = {{"block", "block", TABLE_INT, QTY_NUMBER},
                                            {"pass", "pass", TABLE_STR, QTY_NUMBER},
                                            {"phase", "phase", TABLE_STR, QTY_NUMBER},
                                            {"predicted_s", "predicted", TABLE_QTY, QTY_SECONDS},
                                            {"measured_s", "measured", TABLE_QTY, QTY_SECONDS},
                                            {"least_s", "least", TABLE_QTY, QTY_SECONDS},
                                            {"most_s", "most", TABLE_QTY, QTY_SECONDS},
                                            {"error", "error", TABLE_STR, QTY_NUMBER}};
    struct table *t = table_new(a, cols, 8);
    for (int k = 0; k < c->block_count; k++) {
        const struct compare_block *b = &c->blocks[k];
        for (int i = 0; i < c->phase_count; i++) {
            const struct compare_phase *x = &c->phases[i];
            if (x->block == b->block)
                add_row(t, x->block, rows_pass_names[x->pass], x->name, x->predicted_s,
                        x->measured_s, x->least_s, x->most_s);
        }
        add_row(t, b->block, "all", "whole block, of what was run", b->predicted_s, b->measured_s,
                b->least_s, b->most_s);
    }
    return t;
}

bool compare_judge(const struct comparison *c, double tolerance, struct err *e)
{
    const struct compare_block *worst = NULL;
    double most = 0;
    for (int k = 0; k < c->block_count; k++) {
        double off = fabs(c->blocks[k].measured_s / c->blocks[k].predicted_s - 1);
        if (!(off <= most))
            most = off, worst = &c->blocks[k];
    }
    if (c->impossible)
        return err_set(e, ERR_TOLERANCE, err_at_name("compare"),
                       "faster than the plan's hardware allows: %d of the phases", c->impossible);
    if (worst && !(most <= tolerance) && !rows_take_turns(&c->head))
        return err_set(e, ERR_TOLERANCE, err_at_name("compare"),
                       "block %d is off by %.0f%%, allowed %.0f%%", worst->block, 100 * most,
                       100 * tolerance);
    return true;
}

bool compare_print(const struct comparison *c, double tolerance, enum table_format format,
                   FILE *out, struct arena *a, struct err *e)
{
    table_print(compare_table(c, a), format, out);
    if (format == TABLE_TEXT)
        compare_words(c, out);
    else
        compare_turns(c, stderr);
    return compare_judge(c, tolerance, e);
}
