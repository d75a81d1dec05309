#include "sim/ring.h"

#include <assert.h>
#include <math.h>

double ring_dbsp_s(double a2a_s, double comp_s, double p2p_s, int steps, double rho)
{
    return a2a_s + (fmax(comp_s, p2p_s) * (steps - 1) + comp_s) * rho;
}

struct build {
    struct play_graph *g;
    const struct ring *r;
    int w;      /* members of an inner ring */
    int *begin; /* [rank * steps + step]: marks */
    int *done;  /* [rank * steps + step]: compute or merge */
    struct play_message *messages;
};

/* A hop of all ranks under (or after) step k; member r waits for after[r * n + k]. */
static int add_hop(struct build *b, int k, int stride, double bytes, const int *after)
{
    const struct ring *r = b->r;
    for (int i = 0; i < r->n; i++) {
        int ring = stride == 1 ? b->w : r->n, base = i / ring * ring;
        b->messages[i] = (struct play_message){i, base + (i - base + stride) % ring, bytes};
    }
    struct play_exchange x = {.members = r->n,
                              .gpus = r->gpus,
                              .phase = r->hop_phase,
                              .calls = r->calls,
                              .extra_s = r->extra_s,
                              .messages = b->messages,
                              .message_count = r->n,
                              .no_sms = r->no_sms};
    int first = play_exchange(b->g, &x);
    for (int i = 0; i < r->n; i++)
        play_after(b->g, first + i, after[i * r->n + k]);
    return first;
}

static void add_step(struct build *b, int rank, int k)
{
    const struct ring *r = b->r;
    int at = rank * r->n + k, gpu = r->gpus[rank];
    b->begin[at] = play_mark(b->g, gpu, r->compute_phase);
    if (k > 0)
        play_after(b->g, b->begin[at], b->done[at - 1]);
    b->done[at] = b->begin[at];
    if (r->compute_s[at] > 0) {
        b->done[at] = play_work(b->g, gpu, PLAY_SM, r->compute_s[at], r->compute_phase);
        play_after(b->g, b->done[at], b->begin[at]);
    }
    if (k > 0 && r->merge_s && r->compute_s[at] > 0) {
        int merge = play_work(b->g, gpu, PLAY_HBM, r->merge_s[rank], r->compute_phase);
        play_after(b->g, merge, b->done[at]);
        b->done[at] = merge;
    }
}

static void after_hop(struct build *b, int hop, int k)
{
    for (int i = 0; i < b->r->n; i++)
        play_after(b->g, b->begin[i * b->r->n + k], hop + i);
}

/* The last step is done when the hop beneath it is, too. */
static void join_last(struct build *b, int hop)
{
    for (int i = 0; i < b->r->n && hop >= 0; i++) {
        int *done = &b->done[i * b->r->n + b->r->n - 1];
        int mark = play_mark(b->g, b->r->gpus[i], b->r->compute_phase);
        play_after(b->g, mark, *done);
        play_after(b->g, mark, hop + i);
        *done = mark;
    }
}

void ring_add(struct play_graph *g, const struct ring *r, int *begin, int *end,
              struct arena *scratch)
{
    struct build b = {g,
                      r,
                      r->inner ? r->inner : r->n,
                      ARENA_ARRAY(scratch, int, r->n * r->n),
                      ARENA_ARRAY(scratch, int, r->n * r->n),
                      ARENA_ARRAY(scratch, struct play_message, r->n)};
    assert(r->n % b.w == 0);
    int hop = -1, outer = -1;
    for (int k = 0; k < r->n; k++) {
        for (int i = 0; i < r->n; i++)
            add_step(&b, i, k);
        if (hop >= 0)
            after_hop(&b, hop, k);
        if (outer >= 0 && k % b.w == 0)
            after_hop(&b, outer, k);
        bool turn = k % b.w == b.w - 1;
        if (k % b.w == 0 && b.w < r->n)
            outer = k + b.w < r->n ? add_hop(&b, k, b.w, r->outer_bytes, b.begin) : -1;
        hop = (!turn || k == r->n - 1) && r->hop_bytes[k] > 0
                  ? add_hop(&b, k, 1, r->hop_bytes[k], b.begin)
                  : -1;
    }
    join_last(&b, hop);
    int home = r->n > 1 && r->hop_bytes[r->n] > 0
                   ? add_hop(&b, r->n - 1, 1, r->hop_bytes[r->n], b.done)
                   : -1;
    for (int i = 0; i < r->n; i++) {
        begin[i] = b.begin[i * r->n];
        end[i] = home >= 0 ? home + i : b.done[i * r->n + r->n - 1];
    }
}
