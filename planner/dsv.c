#include "planner/dsv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_HEADS = 1024 };

/* Greedy: heads by falling work, each to the group with the least so far. The heaviest group's sum
 * of (1 - sparsity). */
static double greedy_heaviest(const struct dsv_case *c, int groups)
{
    double work[MOST_HEADS], load[MOST_HEADS] = {0}, heaviest = 0;
    for (int h = 0; h < c->heads; h++)
        work[h] = 1 - c->sparsity[h];
    for (int taken = 0; taken < c->heads; taken++) {
        int head = 0, least = 0;
        for (int h = 1; h < c->heads; h++)
            head = work[h] > work[head] ? h : head;
        for (int g = 1; g < groups; g++)
            least = load[g] < load[least] ? g : least;
        load[least] += work[head];
        heaviest = fmax(heaviest, load[least]);
        work[head] = -1;
    }
    return heaviest;
}

/* 32-bit in the original: S*H*D wraps from about 350k tokens on. */
static double volume_per_gpu(const struct dsv_case *c)
{
    double exact = (double)c->tokens * c->head_dim * c->heads;
    if (c->mended)
        return exact / c->gpus;
    uint32_t wrapped = (uint32_t)((uint64_t)c->tokens * (uint64_t)c->head_dim * (uint64_t)c->heads);
    int32_t as_int;
    memcpy(&as_int, &wrapped, sizeof as_int);
    return (double)(as_int / c->gpus);
}

/* Seconds for `times` tensors of `volume` elements of which near parts go over NVLink and far ones
 * over the NIC. */
static double two_level_s(const struct dsv_case *c, double volume, double near, double far,
                          double times)
{
    double bytes = volume * times * 2;
    double near_s = bytes * near / (c->near_bytes_per_s * c->comm_efficiency);
    double far_s = bytes * far / (c->far_bytes_per_s * c->comm_efficiency);
    return far > 0 ? fmax(near_s, far_s) : near_s;
}

/* `inner` has its ranks together in a node first. The original's min(., 1) leaves the other
 * dimension one rank a node. */
static double comm_s(const struct dsv_case *c, int g_h, int g_s, bool heads_inside)
{
    int inner = heads_inside ? g_h : g_s, outer = heads_inside ? g_s : g_h, node = c->gpus_per_node;
    int inner_near = inner < node ? inner : node, left = node / inner_near;
    int outer_near = c->mended ? (outer < left ? outer : left) : (left < 1 ? left : 1);
    if (outer_near < 1)
        outer_near = 1;
    int h_near = heads_inside ? inner_near : outer_near,
        s_near = heads_inside ? outer_near : inner_near;
    int h_nodes = c->mended ? (g_h + h_near - 1) / h_near : g_h / h_near;
    int s_nodes = c->mended ? (g_s + s_near - 1) / s_near : g_s / s_near;
    double volume = volume_per_gpu(c), kept = 0;
    for (int h = 0; h < c->heads; h++)
        kept += 1 - c->sparsity[h];
    kept /= c->heads;
    double hcp = two_level_s(c, volume / g_h, h_near - 1, (double)h_near * (h_nodes - 1), 4);
    double scp = two_level_s(c, volume * kept, s_near - 1, (double)s_near * (s_nodes - 1), 2);
    return hcp + scp + (g_s > 1 ? c->scp_overhead_s : 0);
}

struct dsv_pick dsv_estimate(const struct dsv_case *c, int head_groups, int seq_groups)
{
    struct dsv_pick p = {.head_groups = head_groups, .seq_groups = seq_groups};
    double tokens = (double)c->tokens, per_pair = 4.0 * c->head_dim + 4.0;
    p.compute_s = greedy_heaviest(c, head_groups) * tokens / seq_groups * tokens * per_pair /
                  (c->flop_per_s * c->compute_efficiency);
    double heads_in = comm_s(c, head_groups, seq_groups, true),
           seq_in = comm_s(c, head_groups, seq_groups, false);
    p.heads_inside = heads_in < seq_in;
    p.comm_s = fmin(heads_in, seq_in);
    p.total_s = p.compute_s + p.comm_s;
    return p;
}

static bool fits(const struct dsv_case *c, int g_h, int g_s)
{
    double kept = 0, shd = (double)c->tokens * c->heads * c->head_dim;
    for (int h = 0; h < c->heads; h++)
        kept += (1 - c->sparsity[h]) / c->heads;
    return 4.0 * 2 * shd / g_h + 2.0 * 2 * shd * kept * (g_s - 1) <= c->memory_bytes;
}

struct dsv_pick dsv_choose(const struct dsv_case *c)
{
    struct dsv_pick best = {0};
    for (int g_h = 1; g_h <= c->gpus && g_h <= MOST_HEADS; g_h++) {
        if (c->gpus % g_h != 0 || !fits(c, g_h, c->gpus / g_h))
            continue;
        struct dsv_pick p = dsv_estimate(c, g_h, c->gpus / g_h);
        if (best.head_groups == 0 || p.total_s < best.total_s)
            best = p;
    }
    return best;
}
