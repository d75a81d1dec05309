#include "model/conf.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

const struct cp_strategy_info cp_strategies[CP_STRATEGIES] = {
    [CP_SINGLE] = {"single", false, false, false, MOVE_NONE, false, "one GPU, no exchange"},
    [CP_ULYSSES] = {"ulysses", false, true, false, MOVE_NONE, false, "even heads, all-to-all"},
    [CP_HCP] = {"hcp", true, true, false, MOVE_NONE, false,
                "heads balanced by work, uneven all-to-all"},
    [CP_SCP] = {"scp", false, false, true, MOVE_ROWS, false,
                "queries stay, only the needed KV rows are fetched"},
    [CP_SCP_DENSE] = {"scp-dense", false, false, true, MOVE_ALL_ROWS, false,
                      "queries stay, all KV rows are fetched"},
    [CP_ALLGATHER] = {"all-gather", false, false, true, MOVE_ALLGATHER, false,
                      "queries stay, KV all-gathered, gradients reduce-scattered"},
    [CP_RING] = {"ring", false, false, true, MOVE_RING, false,
                 "queries stay, KV goes around under the compute"},
    [CP_USP] = {"usp", false, true, true, MOVE_RING, false, "even heads in rows, ring in columns"},
    [CP_HYBRID] = {"hybrid", true, true, true, MOVE_ROWS, false,
                   "balanced heads in rows, needed KV rows in columns"},
    [CP_HYBRID_DENSE] = {"hybrid-dense", true, true, true, MOVE_ALL_ROWS, false,
                         "balanced heads in rows, all KV rows in columns"},
    [CP_DB_SP] = {"db-sp", false, true, true, MOVE_RING, true,
                  "usp with heads shared out by work and blocks moved to level the ring"},
};

const char *const cp_strategy_names[] = {"single",    "ulysses",      "hcp",   "scp",
                                         "scp-dense", "all-gather",   "ring",  "usp",
                                         "hybrid",    "hybrid-dense", "db-sp", NULL};

int cp_strategy_of(const char *name)
{
    for (int i = 0; i < CP_STRATEGIES; i++)
        if (strcmp(name, cp_strategies[i].name) == 0)
            return i;
    return -1;
}

int cp_tensor(const struct cp_conf *c)
{
    return c->tensor > 1 ? c->tensor : 1;
}

int cp_ranks(const struct cp_conf *c)
{
    return c->head_groups * c->seq_groups * cp_tensor(c);
}

int cp_head_ranks(const struct cp_conf *c)
{
    return c->head_groups * cp_tensor(c);
}

int cp_head_rank(const struct cp_conf *c, int rank)
{
    int t = rank % cp_tensor(c), r = rank / cp_tensor(c);
    return t * c->head_groups + (c->heads_inside ? r % c->head_groups : r / c->seq_groups);
}

int cp_seq_rank(const struct cp_conf *c, int rank)
{
    int r = rank / cp_tensor(c);
    return c->heads_inside ? r / c->head_groups : r % c->seq_groups;
}

int cp_rank_at(const struct cp_conf *c, int head_rank, int seq_rank)
{
    int h = head_rank % c->head_groups, t = head_rank / c->head_groups;
    int r = c->heads_inside ? seq_rank * c->head_groups + h : h * c->seq_groups + seq_rank;
    return r * cp_tensor(c) + t;
}

struct cp_held cp_conf_held(const struct cp_conf *c, int heads, int kv_heads, struct arena *a)
{
    int ranks = cp_head_ranks(c);
    double *q = ARENA_ARRAY(a, double, ranks);
    int *kv = ARENA_ARRAY(a, int, ranks);
    unsigned char *seen = ARENA_ARRAY(a, unsigned char, (size_t)ranks *(size_t)kv_heads);
    struct cp_held held = {.q = q, .kv = kv};
    int per_kv = heads / kv_heads;
    for (int i = 0; i < c->piece_count; i++) {
        const struct cp_piece *p = &c->pieces[i];
        unsigned char *s =
            &seen[(size_t)p->head_rank * (size_t)kv_heads + (size_t)(p->head / per_kv)];
        q[p->head_rank] += p->share;
        held.q_sum += p->share;
        kv[p->head_rank] += !*s;
        held.kv_sum += !*s;
        *s = 1;
    }
    return held;
}

static bool degrees_check(const struct cp_conf *c, int ranks, int heads, struct err_at at,
                          struct err *e)
{
    const struct cp_strategy_info *s = &cp_strategies[c->strategy];
    int tensor = cp_tensor(c), share = heads / tensor;
    if (c->head_groups < 1 || c->seq_groups < 1 ||
        (int64_t)c->head_groups * c->seq_groups * tensor != ranks)
        return err_set(e, ERR_INPUT, at,
                       "%d head groups x %d sequence groups is not the CP degree %d",
                       c->head_groups, c->seq_groups, ranks / tensor);
    if (heads % tensor != 0)
        return err_set(e, ERR_INPUT, at, "tensor parallelism: %d does not divide the %d heads",
                       tensor, heads);
    if (c->head_groups > 1 && !s->rows)
        return err_set(e, ERR_INPUT, at, "%s does not split heads: head_groups is %d, want 1",
                       s->name, c->head_groups);
    if (c->seq_groups > 1 && !s->columns)
        return err_set(e, ERR_INPUT, at, "%s does not split the sequence: seq_groups is %d, want 1",
                       s->name, c->seq_groups);
    if (c->head_groups > share)
        return err_set(
            e, ERR_INPUT, at,
            "head_groups: %d ranks for the model's %d heads leaves some idle; want at most %d",
            c->head_groups, share, share);
    if (s->rows && !s->balanced && share % c->head_groups != 0)
        return err_set(e, ERR_INPUT, at,
                       "head_groups: %d does not divide the model's %d heads, which %s needs",
                       c->head_groups, share, s->name);
    return true;
}

static bool pieces_check(const struct cp_conf *c, int heads, struct err_at at, struct err *e)
{
    enum { MOST_HEADS = 1024 };
    double covered[MOST_HEADS] = {0};
    int ranks = cp_head_ranks(c);
    if (heads > MOST_HEADS)
        return err_set(e, ERR_INPUT, at, "%d heads; at most %d are supported", heads, MOST_HEADS);
    for (int i = 0; i < c->piece_count; i++) {
        const struct cp_piece *p = &c->pieces[i];
        if (p->head < 0 || p->head >= heads || p->head_rank < 0 || p->head_rank >= ranks)
            return err_set(e, ERR_INPUT, at,
                           "piece %d: head %d on head rank %d; want 0..%d and 0..%d", i, p->head,
                           p->head_rank, heads - 1, ranks - 1);
        if (p->head_rank / c->head_groups != p->head / (heads / cp_tensor(c)))
            return err_set(e, ERR_INPUT, at,
                           "piece %d: head %d on head rank %d, which is of another tensor rank", i,
                           p->head, p->head_rank);
        if (!(p->share > 0 && p->share <= 1) || !(p->begin >= 0 && p->begin + p->share <= 1 + 1e-9))
            return err_set(e, ERR_INPUT, at,
                           "piece %d of head %d: begin %g, share %g is not a range within 0..1", i,
                           p->head, p->begin, p->share);
        covered[p->head] += p->share;
    }
    for (int h = 0; h < heads; h++)
        if (!(fabs(covered[h] - 1) < 1e-6))
            return err_set(e, ERR_INPUT, at, "head %d is covered %g times by the pieces; want once",
                           h, covered[h]);
    return true;
}

bool cp_conf_check(const struct cp_conf *c, int ranks, int heads, struct err_at at, struct err *e)
{
    return degrees_check(c, ranks, heads, at, e) && pieces_check(c, heads, at, e);
}

const char *cp_conf_text(const struct cp_conf *c, char *text, size_t size)
{
    const struct cp_strategy_info *s = &cp_strategies[c->strategy];
    bool both = c->head_groups > 1 && c->seq_groups > 1;
    snprintf(text, size, "%s %dx%d%s, %s", s->name, c->head_groups, c->seq_groups,
             !both             ? ""
             : c->heads_inside ? ", heads inside"
                               : ", sequence inside",
             c->sparse ? "sparse" : "dense");
    return text;
}

const struct cp_piece *cp_pieces_even(int heads, int head_ranks, struct arena *a)
{
    struct cp_piece *p = ARENA_ARRAY(a, struct cp_piece, heads);
    for (int h = 0; h < heads; h++)
        p[h] = (struct cp_piece){
            .head = h, .head_rank = (int)((int64_t)h * head_ranks / heads), .share = 1};
    return p;
}
