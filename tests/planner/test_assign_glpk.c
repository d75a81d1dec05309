/* The optimum against GLPK's branch and cut (Debian libglpk-dev): mixed-integer programmes that
 * share nothing with our search but the objective, to minimise B + T + O.
 *
 * Whole heads: x[h][r] head h is on rank r, y[r][n] rank r holds n heads, both 0 or 1.
 *   sum_r x[h][r] = 1,  sum_n y[r][n] = 1,  sum_h x[h][r] = sum_n n y[r][n],
 *   sum_h work[h] x[h][r] + sum_n in[n] y[r][n] <= T,  sum_n out[n] y[r][n] <= O,
 *   sum_n before[n] y[r][n] <= B,
 *   x[h][r] = 0 for r > h (ranks are alike).
 *
 * Split heads: x[h][r] is a share, y[h][r] (0 or 1) says that rank r holds a piece.
 *   sum_r x[h][r] = 1,  x[h][r] <= y[h][r],  and for every rank, X = heads, K = sum of all y:
 *   (R-1)(q x + kv y) + work <= T,  q (X - x) + kv (K - y) + work <= T,
 *   o x <= O,  o (X - x) <= O. */
#include "planner/assign.h"

#include <glpk.h>
#include <gsl/gsl_test.h>

#include "base/rng.h"

enum { MOST_ENTRIES = 4000 };

struct milp {
    glp_prob *lp;
    int entries, row[MOST_ENTRIES + 1], column[MOST_ENTRIES + 1];
    double value[MOST_ENTRIES + 1];
    int heads, ranks;
};

static int column_x(const struct milp *m, int h, int r)
{
    return 1 + h * m->ranks + r;
}

static int column_y(const struct milp *m, int r, int n)
{
    return 1 + m->heads * m->ranks + r * (m->heads + 1) + n;
}

static int column_time(const struct milp *m)
{
    return 1 + m->heads * m->ranks + m->ranks * (m->heads + 1);
}

static void entry(struct milp *m, int row, int column, double value)
{
    m->entries++;
    m->row[m->entries] = row;
    m->column[m->entries] = column;
    m->value[m->entries] = value;
}

static int new_row(struct milp *m, int kind, double bound)
{
    int row = glp_add_rows(m->lp, 1);
    glp_set_row_bnds(m->lp, row, kind, bound, bound);
    return row;
}

static void columns_make(struct milp *m)
{
    int t = column_time(m);
    glp_add_cols(m->lp, t + 2);
    for (int c = 1; c < t; c++)
        glp_set_col_kind(m->lp, c, GLP_BV);
    for (int h = 0; h < m->heads; h++)
        for (int r = h + 1; r < m->ranks; r++)
            glp_set_col_bnds(m->lp, column_x(m, h, r), GLP_FX, 0, 0);
    for (int c = t; c <= t + 2; c++) {
        glp_set_col_bnds(m->lp, c, GLP_LO, 0, 0);
        glp_set_obj_coef(m->lp, c, 1);
    }
}

static void rank_rows(struct milp *m, const struct assign_problem *p, int r)
{
    int one = new_row(m, GLP_FX, 1), count = new_row(m, GLP_FX, 0);
    int time = new_row(m, GLP_UP, 0), out = new_row(m, GLP_UP, 0), before = new_row(m, GLP_UP, 0);
    for (int h = 0; h < m->heads; h++) {
        entry(m, count, column_x(m, h, r), 1);
        entry(m, time, column_x(m, h, r), p->work_s[h]);
    }
    for (int n = 0; n <= m->heads; n++) {
        entry(m, one, column_y(m, r, n), 1);
        entry(m, count, column_y(m, r, n), -n);
        entry(m, time, column_y(m, r, n), p->in_s[n]);
        entry(m, out, column_y(m, r, n), p->out_s[n]);
        entry(m, before, column_y(m, r, n), p->before_s[n]);
    }
    entry(m, time, column_time(m), -1);
    entry(m, out, column_time(m) + 1, -1);
    entry(m, before, column_time(m) + 2, -1);
}

static void head_rows(struct milp *m)
{
    for (int h = 0; h < m->heads; h++) {
        int row = new_row(m, GLP_FX, 1);
        for (int r = 0; r < m->ranks; r++)
            entry(m, row, column_x(m, h, r), 1);
    }
}

static double solved(struct milp *m)
{
    glp_load_matrix(m->lp, m->entries, m->row, m->column, m->value);
    glp_iocp how;
    glp_init_iocp(&how);
    how.msg_lev = GLP_MSG_OFF;
    how.presolve = GLP_ON;
    double best = glp_intopt(m->lp, &how) == 0 && glp_mip_status(m->lp) == GLP_OPT
                      ? glp_mip_obj_val(m->lp)
                      : -1;
    glp_delete_prob(m->lp);
    return best;
}

static double glpk_optimum(const struct assign_problem *p)
{
    static struct milp m;
    m = (struct milp){.lp = glp_create_prob(), .heads = p->heads, .ranks = p->ranks};
    columns_make(&m);
    head_rows(&m);
    for (int r = 0; r < m.ranks; r++)
        rank_rows(&m, p, r);
    return solved(&m);
}

/* --- split heads --- */

static int column_piece(const struct milp *m, int h, int r)
{
    return 1 + (m->heads + h) * m->ranks + r;
}

static void split_columns(struct milp *m)
{
    int n = m->heads * m->ranks;
    glp_add_cols(m->lp, 2 * n + 2);
    for (int c = 1; c <= n; c++) {
        glp_set_col_bnds(m->lp, c, GLP_DB, 0, 1);
        glp_set_col_kind(m->lp, n + c, GLP_BV);
    }
    for (int c = 2 * n + 1; c <= 2 * n + 2; c++) {
        glp_set_col_bnds(m->lp, c, GLP_LO, 0, 0);
        glp_set_obj_coef(m->lp, c, 1);
    }
}

static void split_rank_rows(struct milp *m, const struct assign_split_problem *p, int r)
{
    const struct assign_wire *w = &p->wire;
    int others = m->ranks - 1, heads = m->heads, time = 2 * heads * m->ranks + 1;
    int receive = new_row(m, GLP_UP, 0), send = new_row(m, GLP_UP, -w->q_s * heads);
    int out_send = new_row(m, GLP_UP, 0), out_receive = new_row(m, GLP_UP, -w->o_s * heads);
    for (int h = 0; h < heads; h++) {
        int piece = new_row(m, GLP_UP, 0);
        entry(m, piece, column_x(m, h, r), 1);
        entry(m, piece, column_piece(m, h, r), -1);
        entry(m, receive, column_x(m, h, r), p->work_s[h] + others * w->q_s);
        entry(m, receive, column_piece(m, h, r), others * w->kv_s);
        entry(m, send, column_x(m, h, r), p->work_s[h] - w->q_s);
        for (int other = 0; other < m->ranks; other++)
            if (other != r)
                entry(m, send, column_piece(m, h, other), w->kv_s);
        entry(m, out_send, column_x(m, h, r), others * w->o_s);
        entry(m, out_receive, column_x(m, h, r), -w->o_s);
    }
    entry(m, receive, time, -1);
    entry(m, send, time, -1);
    entry(m, out_send, time + 1, -1);
    entry(m, out_receive, time + 1, -1);
}

static double glpk_split_optimum(const struct assign_split_problem *p)
{
    static struct milp m;
    m = (struct milp){.lp = glp_create_prob(), .heads = p->heads, .ranks = p->ranks};
    split_columns(&m);
    head_rows(&m);
    for (int r = 0; r < m.ranks; r++)
        split_rank_rows(&m, p, r);
    return solved(&m);
}

static double the_split_is_near_glpk_s(uint64_t i, struct arena *results, struct arena *scratch)
{
    struct rng r = rng_stream(2, "glpk", i, 0, 0);
    double work[6], u = 0.03 * rng_uniform(&r);
    struct assign_split_problem p = {.heads = 3 + (int)rng_below(&r, 3),
                                     .ranks = 2 + (int)rng_below(&r, 2),
                                     .work_s = work,
                                     .wire = {u, 2 * u, u}};
    for (int h = 0; h < p.heads; h++)
        work[h] = rng_uniform(&r) * (h == 0 ? 3 : 1);
    struct assign_split ours;
    struct err e = {0};
    arena_reset(scratch);
    gsl_test(!assign_split(&p, (struct assign_limits){0}, &ours, results, scratch, &e), "split: %s",
             e.text);
    double best = glpk_split_optimum(&p);
    gsl_test(ours.bound_s > best * (1 + 1e-7), "case %d: the bound holds", (int)i);
    gsl_test(ours.cost_s < best * (1 - 1e-7), "case %d: not below the optimum", (int)i);
    return ours.cost_s / best - 1;
}

static void splits_are_near_the_optimum(struct arena *results, struct arena *scratch)
{
    double sum = 0, most = 0;
    enum { CASES = 40 };
    for (uint64_t i = 0; i < CASES; i++) {
        double gap = the_split_is_near_glpk_s(i, results, scratch);
        sum += gap;
        most = gap > most ? gap : most;
    }
    gsl_test(sum / CASES > 0.01, "1%% above the optimum on average at most: %g", sum / CASES);
    gsl_test(most > 0.05, "5%% at most: %g", most);
}

static void the_optimum_is_glpk_s(uint64_t i, struct arena *results, struct arena *scratch)
{
    struct rng r = rng_stream(1, "glpk", i, 0, 0);
    double work[10], before[11] = {0}, in[11], out[11], u = 0.1 * rng_uniform(&r);
    struct assign_problem p = {.heads = i < 2 ? 10 : 5 + (int)rng_below(&r, 4),
                               .ranks = 2 + (int)rng_below(&r, 3)};
    p.ranks = i < 2 ? 4 : p.ranks;
    p.work_s = work, p.before_s = before, p.in_s = in, p.out_s = out;
    for (int h = 0; h < p.heads; h++)
        work[h] = i % 2 ? 0.125 * (double)(1 + rng_below(&r, 8)) : rng_uniform(&r);
    assign_wire_fill(&(struct assign_wire){u, 2 * u, u}, p.ranks, p.heads, 1, in, out);
    for (int n = 0; i % 3 == 2 && n <= p.heads; n++)
        in[n] = rng_uniform(&r), out[n] = rng_uniform(&r);
    for (int n = 0; i % 4 > 1 && n <= p.heads; n++)
        before[n] = i % 4 == 2 ? 0.2 * n : rng_uniform(&r);
    struct assign_result ours;
    struct err e = {0};
    arena_reset(scratch);
    bool ok = assign_exact(&p, (struct assign_limits){.nodes = INT64_C(1) << 40}, &ours, results,
                           scratch, &e);
    gsl_test(!ok || ours.proof != ASSIGN_EXACT, "solved");
    gsl_test_rel(ours.cost_s, glpk_optimum(&p), 1e-7, "case %d: %d heads, %d ranks", (int)i,
                 p.heads, p.ranks);
}

int main(void)
{
    struct arena *results = arena_new(), *scratch = arena_new();
    for (uint64_t i = 0; i < 60; i++)
        the_optimum_is_glpk_s(i, results, scratch);
    splits_are_near_the_optimum(results, scratch);
    glp_free_env();
    arena_free(scratch);
    arena_free(results);
    return gsl_test_summary();
}
