/* Where heads go, against every other assignment of small blocks, each priced in full: what a rank
 * computes, selects, exchanges and fetches. With an argument: so many questions (24). */
#include <gsl/gsl_test.h>
#include <math.h>
#include <stdlib.h>

#include "planner/heads.h"
#include "tests/planner/drawn.h"
#include "tests/planner/dsv_heads.h"

enum { HEADS = 7 };

static struct arena *scratch;

static double price(const struct cp_case *c, const struct cp_conf *conf)
{
    arena_reset(scratch);
    struct cp_program p = cp_program_of(c, 0, conf, scratch);
    return cost_program_time(&p, conf, c->cluster, scratch, scratch).total_s;
}

/* The least over all ways to put heads `head` and following on ranks; a new rank is the first that
 * has none yet, since ranks are alike. */
static double least(const struct cp_case *c, const struct cp_conf *conf, struct cp_piece *piece,
                    int head, int used)
{
    if (head == HEADS)
        return price(c, conf);
    double best = INFINITY;
    int ranks = used < conf->head_groups ? used + 1 : used;
    for (int r = 0; r < ranks; r++) {
        piece[head].head_rank = r;
        best = fmin(best, least(c, conf, piece, head + 1, r == used ? used + 1 : used));
    }
    return best;
}

static double gap_of(const struct drawn *d, int head_groups, int seq_groups)
{
    struct cp_piece piece[HEADS];
    struct err e = {0};
    struct cp_conf conf = {.strategy = seq_groups > 1 ? CP_HYBRID : CP_HCP,
                           .head_groups = head_groups,
                           .seq_groups = seq_groups,
                           .heads_inside = true,
                           .sparse = true,
                           .query_group = 32};
    arena_reset(scratch);
    gsl_test(!plan_assign_heads(&d->r.c, 0, 0, &conf, d->a, scratch, &e), "%s: %s", d->text,
             e.text);
    double ours = price(&d->r.c, &conf);
    for (int h = 0; h < HEADS; h++)
        piece[h] = conf.pieces[h];
    conf.pieces = piece;
    return ours / least(&d->r.c, &conf, piece, 0, 0) - 1;
}

/* Seven heads with keeps of DSV's published vectors and a union model of docs/sparsity.md. */
static void few_heads(struct drawn *d, struct dit_model *m, struct sparsity *s, int k)
{
    static const struct union_model models_of_unions[] = {
        {.kind = UNION_FIELD, .length = 5.5},
        {.kind = UNION_FIELD, .length = 0.34, .length_is_share = true},
        {.kind = UNION_MARKOV, .rho = 0.8, .omega = 0.4}};
    double *keep = ARENA_ARRAY(d->a, double, dit_blocks(d->r.c.model) * HEADS);
    for (int h = 0; h < HEADS; h++)
        keep[h] = 1 - dsv_sparsity[k % DSV_VECTORS][below(d, DSV_HEADS)];
    *m = *d->r.c.model;
    m->heads = m->kv_heads = HEADS;
    *s = d->sparsity;
    s->heads = HEADS;
    s->keep = keep;
    s->model = PICK(d, models_of_unions);
    s->shard_skew = 1;
    d->r.c.model = m;
    d->r.c.sparsity = s;
    d->r.c.options.split_heads = false;
}

/* GPUs that share a NIC are left out: what their neighbours send is not a rank's own. */
static void no_other_assignment_is_much_faster(int cases)
{
    static const int degrees[][2] = {{2, 1}, {2, 2}, {2, 8}, {4, 1}, {4, 2}, {4, 8}};
    int asked = 0, missed = 0;
    for (int k = 0; k < cases; k++) {
        struct drawn d;
        struct dit_model m;
        struct sparsity s;
        gsl_test(!draw_request(&d, 9, (uint64_t)k, 32), "case %d %s", k, d.e.text);
        d.cluster.gpus_per_nic = 1;
        few_heads(&d, &m, &s, k);
        for (size_t i = 0; i < sizeof degrees / sizeof *degrees; i++) {
            if (degrees[i][0] * degrees[i][1] > hw_gpus(&d.cluster))
                continue;
            double gap = gap_of(&d, degrees[i][0], degrees[i][1]);
            gsl_test(gap > 0.01, "%s: %dx%d: %.3f%% above the best", d.text, degrees[i][0],
                     degrees[i][1], 100 * gap);
            missed += gap > 0.001;
            asked++;
        }
        arena_free(d.a);
    }
    gsl_test(missed > asked / 50, "%d of %d are over 0.1%% above the best", missed, asked);
}

int main(int argc, char **argv)
{
    scratch = arena_new();
    no_other_assignment_is_much_faster(argc > 1 ? atoi(argv[1]) : 24);
    arena_free(scratch);
    return gsl_test_summary();
}
