/* Barriers of threads, and what the lanes of a warp do together: shfl, vote, match, redux. */
#include "tests/ptx/machine.h"

/* ---- bar ---- */

static uint32_t needed(const struct block *b, const struct barrier *bar)
{
    if (bar->expected)
        return bar->expected / LANES;
    uint32_t live = 0;
    for (int i = 0; i < b->warps; i++)
        live += b->warp[i].live != 0;
    return live;
}

static void complete(struct block *b, uint32_t number)
{
    struct barrier *bar = &b->barrier[number];
    for (int i = 0; i < b->warps; i++)
        for (int g = 0; g < b->warp[i].groups; g++) {
            struct group *group = &b->warp[i].group[g];
            if (group->wait != WAIT_BARRIER || group->on != number)
                continue;
            group->wait = WAIT_NO;
            order_become(&b->warp[i], group->lanes, bar->gather);
        }
    order_drop(b, &bar->gather);
    *bar = (struct barrier){0, 0, NULL};
}

void barriers_recheck(struct block *b)
{
    for (uint32_t n = 0; n < BARRIERS; n++) {
        struct barrier *bar = &b->barrier[n];
        if (bar->arrived && !bar->expected &&
            (uint32_t)__builtin_popcount(bar->arrived) >= needed(b, bar))
            complete(b, n);
    }
}

/* A row that must be the same in all lanes. */
static bool uniform(struct warp *w, int row, uint32_t lanes, uint32_t *value)
{
    const uint32_t *r = row_of(w, row);
    *value = r[__builtin_ctz(lanes)];
    EACH_LANE(l, lanes)
    if (r[l] != *value)
        return fault(w, (int)l, "%u here and %u in another lane, where all must agree", r[l],
                     *value);
    return true;
}

/* how: 1 waits, 0 only arrives. */
static bool run_bar(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint32_t number, threads = 0;
    if (!uniform(w, i->src[0], lanes, &number) ||
        (i->srcs > 1 && !uniform(w, i->src[1], lanes, &threads)))
        return false;
    if (number >= BARRIERS || threads % LANES || (i->srcs > 1 && threads == 0))
        return fault(w, -1, "barrier %u of %u threads: want 0 .. 15 and whole warps", number,
                     threads);
    struct barrier *bar = &w->b->barrier[number];
    uint32_t me = 1u << w->index;
    if (bar->arrived && bar->expected != threads)
        return fault(w, -1, "barrier %u is for %u threads here and for %u elsewhere", number,
                     threads, bar->expected);
    if (bar->arrived & me)
        return fault(w, -1, "this warp is at barrier %u twice before it was complete", number);
    bar->expected = threads;
    bar->arrived |= me;
    order_release(w, lanes, &bar->gather);
    if (i->how) {
        w->park = WAIT_BARRIER;
        w->now->wait = WAIT_BARRIER;
        w->now->on = number;
    }
    if ((uint32_t)__builtin_popcount(bar->arrived) >= needed(w->b, bar)) {
        complete(w->b, number);
        w->park = WAIT_NO;
    }
    return true;
}

static bool decode_bar(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    bool arrive = decode_has(d, "arrive");
    for (int k = 1; k < d->parts; k++)
        if (strcmp(d->part[k], "sync") && strcmp(d->part[k], "arrive") &&
            strcmp(d->part[k], "cta") && strcmp(d->part[k], "aligned"))
            return decode_wrong(d, "a barrier that this machine does not know");
    if (arrive == decode_has(d, "sync") || d->s->operands < 1 + arrive || d->s->operands > 2)
        return decode_wrong(d, "a barrier that this machine does not know");
    d->i->run = run_bar;
    d->i->cls = PTX_BARRIER;
    d->i->how = !arrive;
    d->i->flags = INS_LANES | INS_BLOCKS;
    return decode_src(d, &o[0], 32) && (d->s->operands < 2 || decode_src(d, &o[1], 32));
}

static bool run_warp_sync(struct warp *w, const struct ins *i, uint32_t lanes)
{
    (void)i;
    order_lanes(w, lanes);
    return true;
}

/* ---- lanes together; src[0] is always the mask of members ---- */

enum { SHFL_UP, SHFL_DOWN, SHFL_BFLY, SHFL_IDX };

static bool run_shfl(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint32_t from[LANES], in = 0;
    const uint32_t *a = row_of(w, i->src[1]), *by = row_of(w, i->src[2]),
                   *bounds = row_of(w, i->src[3]);
    memcpy(from, a, sizeof from);
    uint32_t *to = row_of(w, i->dst[0]);
    EACH_LANE(l, lanes)
    {
        uint32_t b = by[l] & 31, segment = bounds[l] >> 8 & 31, c = bounds[l] & 31;
        int low = (int)(l & segment), high = (int)((l & segment) | (c & ~segment)), j;
        bool ok;
        switch (i->how) {
        case SHFL_UP:
            j = (int)l - (int)b;
            ok = j >= high;
            break;
        case SHFL_DOWN:
            j = (int)(l + b);
            ok = j <= high;
            break;
        case SHFL_BFLY:
            j = (int)(l ^ b);
            ok = j <= high;
            break;
        default:
            j = low | (int)(b & ~segment);
            ok = j <= high;
        }
        if (!ok)
            j = (int)l;
        if (!(lanes >> j & 1))
            return fault(w, (int)l, "shfl from lane %d, which takes no part", j);
        in |= (uint32_t)ok << l;
        to[l] = from[j];
    }
    if (i->dsts > 1)
        w->preds[i->dst[1]] = (w->preds[i->dst[1]] & ~lanes) | in;
    return true;
}

static bool decode_shfl(struct decoder *d)
{
    static const char *const modes[] = {"up", "down", "bfly", "idx"};
    const struct operand *o = d->s->operand;
    int mode = 0;
    if (d->parts != 4 || strcmp(d->part[1], "sync") || strcmp(d->part[3], "b32"))
        return decode_wrong(d, "want shfl.sync.MODE.b32");
    while (mode < 4 && strcmp(d->part[2], modes[mode]))
        mode++;
    if (mode == 4)
        return decode_wrong(d, "want up, down, bfly or idx");
    d->i->run = run_shfl;
    d->i->how = (uint8_t)mode;
    return decode_operands(d, 5) && decode_src(d, &o[4], 32) && decode_dst(d, &o[0], 32) &&
           (!o[0].second || decode_dst(d, o[0].second, 1)) && decode_src(d, &o[1], 32) &&
           decode_src(d, &o[2], 32) && decode_src(d, &o[3], 32);
}

static inline uint32_t voters(const struct warp *w, int p, uint32_t lanes)
{
    return (p >= 0 ? w->preds[p] : ~w->preds[~p]) & lanes;
}

enum { VOTE_ANY, VOTE_ALL, VOTE_UNI, VOTE_BALLOT };

static bool run_vote(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint32_t yes = voters(w, i->src[1], lanes);
    if (i->how == VOTE_BALLOT) {
        EACH_LANE(l, lanes)
        row_of(w, i->dst[0])[l] = yes;
        return true;
    }
    bool all = yes == lanes, none = yes == 0;
    bool answer = i->how == VOTE_ANY ? !none : i->how == VOTE_ALL ? all : all || none;
    w->preds[i->dst[0]] = (w->preds[i->dst[0]] & ~lanes) | (answer ? lanes : 0);
    return true;
}

static bool decode_vote(struct decoder *d)
{
    static const char *const modes[] = {"any", "all", "uni", "ballot"};
    const struct operand *o = d->s->operand;
    int mode = 0;
    while (d->parts == 4 && mode < 4 && strcmp(d->part[2], modes[mode]))
        mode++;
    if (d->parts != 4 || mode == 4 || strcmp(d->part[1], "sync") ||
        strcmp(d->part[3], mode == VOTE_BALLOT ? "b32" : "pred"))
        return decode_wrong(d, "a vote that this machine does not know");
    d->i->run = run_vote;
    d->i->how = (uint8_t)mode;
    return decode_operands(d, 3) && decode_src(d, &o[2], 32) &&
           decode_dst(d, &o[0], mode == VOTE_BALLOT ? 32 : 1) && decode_src(d, &o[1], 1);
}

static bool run_match_any(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint32_t a[LANES];
    memcpy(a, row_of(w, i->src[1]), sizeof a);
    EACH_LANE(l, lanes)
    {
        uint32_t same = 0;
        for (uint32_t m = 0; m < LANES; m++)
            same |= (uint32_t)((lanes >> m & 1) && a[m] == a[l]) << m;
        row_of(w, i->dst[0])[l] = same;
    }
    return true;
}

static bool decode_match(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    if (strcmp(d->s->op, "match.any.sync.b32"))
        return decode_wrong(d, "want match.any.sync.b32");
    d->i->run = run_match_any;
    return decode_operands(d, 3) && decode_src(d, &o[2], 32) && decode_dst(d, &o[0], 32) &&
           decode_src(d, &o[1], 32);
}

enum { REDUX_ADD, REDUX_MIN, REDUX_MAX, REDUX_AND, REDUX_OR, REDUX_XOR, REDUX };
enum { REDUX_SIGNED = 8 };

static uint32_t redux(int op, bool is_signed, uint32_t a, uint32_t b)
{
    bool less = is_signed ? (int32_t)a < (int32_t)b : a < b;
    switch (op) {
    case REDUX_ADD:
        return a + b;
    case REDUX_MIN:
        return less ? a : b;
    case REDUX_MAX:
        return less ? b : a;
    case REDUX_AND:
        return a & b;
    case REDUX_OR:
        return a | b;
    default:
        return a ^ b;
    }
}

static bool run_redux(struct warp *w, const struct ins *i, uint32_t lanes)
{
    const uint32_t *a = row_of(w, i->src[1]);
    uint32_t first = (uint32_t)__builtin_ctz(lanes), sum = a[first];
    EACH_LANE(l, lanes & ~(1u << first))
    sum = redux(i->how & 7, i->how & REDUX_SIGNED, sum, a[l]);
    EACH_LANE(l, lanes)
    row_of(w, i->dst[0])[l] = sum;
    return true;
}

static bool decode_redux(struct decoder *d)
{
    static const char *const ops[REDUX] = {"add", "min", "max", "and", "or", "xor"};
    const struct operand *o = d->s->operand;
    int op = 0;
    while (d->parts == 4 && op < REDUX && strcmp(d->part[2], ops[op]))
        op++;
    if (d->parts != 4 || op == REDUX || strcmp(d->part[1], "sync") || !strchr("usb", *d->part[3]))
        return decode_wrong(d, "a redux that this machine does not know");
    d->i->run = run_redux;
    d->i->how = (uint8_t)(op | (*d->part[3] == 's' ? REDUX_SIGNED : 0));
    return decode_operands(d, 3) && decode_src(d, &o[2], 32) && decode_dst(d, &o[0], 32) &&
           decode_src(d, &o[1], 32);
}

static bool run_elect(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint32_t first = (uint32_t)__builtin_ctz(lanes);
    EACH_LANE(l, lanes)
    row_of(w, i->dst[0])[l] = first;
    w->preds[i->dst[1]] = (w->preds[i->dst[1]] & ~lanes) | 1u << first;
    return true;
}

static bool decode_elect(struct decoder *d)
{
    const struct operand *o = d->s->operand;
    d->i->run = run_elect;
    if (strcmp(d->s->op, "elect.sync"))
        return decode_wrong(d, "want elect.sync");
    return decode_operands(d, 2) && decode_src(d, &o[1], 32) && decode_dst(d, &o[0], 32) &&
           (o[0].second ? decode_dst(d, o[0].second, 1) : decode_wrong(d, "want d|p"));
}

static bool decode_warp_sync(struct decoder *d)
{
    d->i->run = run_warp_sync;
    d->i->cls = PTX_BARRIER;
    return decode_operands(d, 1) && decode_src(d, &d->s->operand[0], 32);
}

static bool run_activemask(struct warp *w, const struct ins *i, uint32_t lanes)
{
    EACH_LANE(l, lanes)
    row_of(w, i->dst[0])[l] = lanes;
    return true;
}

/* ---- fences ---- */

static bool run_nothing(struct warp *w, const struct ins *i, uint32_t lanes)
{
    (void)w, (void)i, (void)lanes;
    return true;
}

static bool run_proxy_fence(struct warp *w, const struct ins *i, uint32_t lanes)
{
    (void)i;
    order_fence(w, lanes);
    return true;
}

/* Blocks see each other's global memory at once, and a fence alone orders nothing in shared memory
 * that a barrier does not: fences of the generic proxy have no effect here. */
static const struct {
    const char *op;
    ins_run *run;
} plain[] = {{"fence.proxy.async", run_proxy_fence},
             {"fence.proxy.async.shared::cta", run_proxy_fence},
             {"fence.proxy.async.global", run_nothing},
             {"membar.cta", run_nothing},
             {"membar.gl", run_nothing},
             {"membar.sys", run_nothing},
             {"fence.sc.cta", run_nothing},
             {"fence.sc.gpu", run_nothing},
             {"fence.sc.sys", run_nothing},
             {"fence.acq_rel.cta", run_nothing},
             {"fence.acq_rel.gpu", run_nothing},
             {"fence.acq_rel.sys", run_nothing},
             {"fence.mbarrier_init.release.cluster", run_nothing},
             {"griddepcontrol.wait", run_nothing},
             {"griddepcontrol.launch_dependents", run_nothing}};

static bool decode_plain(struct decoder *d, bool *known)
{
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (strcmp(d->s->op, plain[i].op) == 0) {
            d->i->run = plain[i].run;
            d->i->cls = PTX_BARRIER;
            return decode_operands(d, 0);
        }
    if (strcmp(d->s->op, "activemask.b32") == 0) {
        d->i->run = run_activemask;
        d->i->cls = PTX_SHUFFLE;
        return decode_operands(d, 1) && decode_dst(d, &d->s->operand[0], 32);
    }
    *known = false;
    return true;
}

static const struct {
    const char *name;
    bool (*decode)(struct decoder *d);
} members[] = {{"shfl", decode_shfl},   {"vote", decode_vote},   {"match", decode_match},
               {"redux", decode_redux}, {"elect", decode_elect}, {"bar.warp", decode_warp_sync}};

bool decode_sync(struct decoder *d, bool *known)
{
    *known = true;
    bool bar = strcmp(d->part[0], "bar") == 0 || strcmp(d->part[0], "barrier") == 0;
    bool warp = bar && strcmp(d->s->op, "bar.warp.sync") == 0;
    if (bar && !warp)
        return decode_bar(d);
    const char *name = warp ? "bar.warp" : d->part[0];
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (strcmp(members[i].name, name) == 0) {
            d->i->cls = PTX_SHUFFLE;
            d->i->flags = INS_MEMBERS;
            return members[i].decode(d);
        }
    return decode_plain(d, known);
}
