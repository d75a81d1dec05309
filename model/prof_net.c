/* Collectives: interpolation inside a measured curve, rules for sizes, counts and nodes outside. */
#include "model/prof.h"

#include <assert.h>
#include <math.h>
#include <stddef.h>

const char *const prof_class_names[] = {"point",    "inside",  "outside", "count",
                                        "borrowed", "between", NULL};
const char *const coll_op_names[] = {"all_gather", "reduce_scatter", "all_reduce",
                                     "alltoall",   "send_recv",      NULL};
const char *const coll_type_names[] = {"any", "half", "int8", NULL};

double coll_wire_share(enum coll_op op, int gpus)
{
    double share = (gpus - 1.0) / gpus;
    return op == COLL_SEND_RECV ? 1 : op == COLL_ALL_REDUCE ? 2 * share : share;
}

double coll_work_share(enum coll_op op, int gpus)
{
    double n = gpus, copied = op == COLL_ALL_REDUCE ? (2 * n - 1) / n : 1;
    return op == COLL_SEND_RECV ? 1 : coll_wire_share(op, gpus) + copied;
}

static double line(const struct prof_curve *c, int i, double bytes) /* through points i and i+1 */
{
    double slope = (c->time_s[i + 1] - c->time_s[i]) / (c->bytes[i + 1] - c->bytes[i]);
    return c->time_s[i] + slope * (bytes - c->bytes[i]);
}

static int segment(const struct prof_curve *c,
                   double bytes) /* i with bytes[i] <= bytes < bytes[i+1]; ends clamped */
{
    int low = 0, high = c->count - 1;
    while (high - low > 1) {
        int mid = (low + high) / 2;
        if (bytes >= c->bytes[mid])
            low = mid;
        else
            high = mid;
    }
    return low;
}

/* How far an operation goes from the chord to the lower neighbouring line between two points:
 * not at all, half way (the geometric mean) or all the way. All-gather and reduce-scatter have
 * rings only and step from LL128 to Simple; all-reduce has trees and the switch beside them, which
 * round the step off; point-to-point messages, of which an all-to-all is made, know no LL128 and
 * stay on one line. */
enum knee { ON_CHORD, HALF_WAY, ON_LINE };
static const enum knee knee_of[COLL_OPS] = {[COLL_ALL_GATHER] = ON_LINE,
                                            [COLL_REDUCE_SCATTER] = ON_LINE,
                                            [COLL_ALL_REDUCE] = HALF_WAY,
                                            [COLL_ALLTOALL] = ON_CHORD,
                                            [COLL_SEND_RECV] = ON_CHORD};

double prof_curve_s(const struct prof_curve *c, double bytes)
{
    if (c->count == 1)
        return c->time_s[0] * fmax(1, bytes / c->bytes[0]);
    if (bytes <= c->bytes[0]) /* the first piece carried on: flat where it is all latency */
        return fmax(line(c, 0, bytes), c->time_s[0] * bytes / c->bytes[0]);
    int i = segment(c, bytes);
    double chord = line(c, i, bytes);
    if (bytes >= c->bytes[c->count - 1] || i == 0 || i + 2 >= c->count)
        return chord;
    double lower = fmin(line(c, i - 1, bytes), line(c, i + 1, bytes));
    double knee = fmin(fmax(lower, chord), c->time_s[i + 1]),
           answers[] = {[ON_CHORD] = chord, [HALF_WAY] = sqrt(chord * knee), [ON_LINE] = knee};
    return answers[knee_of[c->op]];
}

/* Octaves to the nearest point: what is close to a measurement is known better. */
static double distance(const struct prof_curve *c, double bytes)
{
    int i = c->count == 1 ? 0 : segment(c, bytes);
    double below = fabs(log2(bytes / c->bytes[i]));
    return i + 1 < c->count ? fmin(below, fabs(log2(bytes / c->bytes[i + 1]))) : below;
}

static bool within(const struct prof_curve *c, double bytes)
{
    return bytes >= c->bytes[0] && bytes <= c->bytes[c->count - 1];
}

/* The share of the answer that a line carried on beyond the curve's ends contributes, in units of
 * what it is at four times the last size, where the class's half-width was taken. It stays finite:
 * far beyond the table the whole answer errs by the line's slope, below it latency stays. */
static double carried_on(const struct prof_curve *c, double bytes)
{
    double end = c->time_s[bytes < c->bytes[0] ? 0 : c->count - 1];
    double t = prof_curve_s(c, bytes);
    return fabs(t - end) / t / 0.75;
}

static double curve_half(const struct prof_net *p, const struct prof_curve *c, double bytes)
{
    int large = bytes >= 1048576;
    double away = distance(c, bytes) / p->gap_octaves, half = p->half[PROF_POINT][large];
    if (within(c, bytes))
        half += (p->half[PROF_INSIDE][large] - half) * fmin(away, 1);
    else
        half = hypot(half,
                     p->half[PROF_OUTSIDE][large] * (c->count > 1 ? carried_on(c, bytes) : away));
    if (c->nodes > 1) /* another site with the same network: a third of what unlike sites differ */
        half = hypot(half, p->between.half[large] / 3);
    return c->origin > PROF_INSIDE ? hypot(half, p->half[c->origin][large]) : half;
}

static const char *curve_regime(const struct prof_curve *c, double bytes)
{
    if (!within(c, bytes))
        return bytes < c->bytes[0] ? "below the table" : "beyond the table";
    if (prof_curve_s(c, bytes) < 2 * c->time_s[0])
        return "latency";
    int i = c->count == 1 ? 0 : segment(c, bytes);
    return i + 2 >= c->count || bytes >= 67108864 ? "bandwidth" : "between protocols";
}

static struct prediction on_curve(const struct prof_net *p, const struct prof_curve *c,
                                  double bytes)
{
    enum prof_class class = !within(c, bytes)           ? PROF_OUTSIDE
                            : distance(c, bytes) < 1e-9 ? PROF_POINT
                                                        : PROF_INSIDE;
    return (struct prediction){.time = interval_of(prof_curve_s(c, bytes), curve_half(p, c, bytes)),
                               .class = c->origin > PROF_INSIDE ? c->origin : class,
                               .in_range = within(c, bytes),
                               .regime = curve_regime(c, bytes)};
}

struct neighbours { /* curves of the next smaller and larger count; equal when the count is there */
    const struct prof_curve *below, *above;
};

static bool serves(const struct prof_curve *c, const struct coll_query *q)
{
    if (c->op != q->op || c->nodes != q->nodes)
        return false;
    if (q->nodes > 1 && fabs(c->nic_bytes_per_s / q->nic_bytes_per_s - 1) > 0.02)
        return false;
    return c->type == COLL_ANY || c->type == (q->type == COLL_INT8 ? COLL_INT8 : COLL_HALF);
}

static struct neighbours neighbours(const struct prof_net *p, const struct coll_query *q)
{
    struct neighbours n = {0};
    for (int i = 0; i < p->curve_count; i++) {
        const struct prof_curve *c = &p->curves[i];
        if (!serves(c, q))
            continue;
        if (c->gpus <= q->gpus && (!n.below || c->gpus >= n.below->gpus))
            n.below = c;
        if (c->gpus >= q->gpus && (!n.above || c->gpus < n.above->gpus))
            n.above = c;
    }
    return n;
}

/* Between two counts. Up to the first size that both have, which is latency, straight in log time
 * over log n; what larger messages take beyond that, straight in 1/n (coll_work_share). Both rise
 * with bytes. */
static double among_counts(const struct coll_query *q, struct neighbours n)
{
    double low = n.below->gpus, high = n.above->gpus, gpus = q->gpus;
    double start = fmin(q->bytes, fmax(n.below->bytes[0], n.above->bytes[0]));
    double first[2] = {prof_curve_s(n.below, start), prof_curve_s(n.above, start)};
    double u = log(gpus / low) / log(high / low);
    double v = (1 / low - 1 / gpus) / (1 / low - 1 / high);
    return exp((1 - u) * log(first[0]) + u * log(first[1])) +
           (1 - v) * (prof_curve_s(n.below, q->bytes) - first[0]) +
           v * (prof_curve_s(n.above, q->bytes) - first[1]);
}

/* Beyond the counts that were measured: what is over the latency grows with the work, and the
 * latency by 0.35 a doubling (a ring has n-1 steps, trees have fewer). */
static double other_count_s(const struct coll_query *q, struct neighbours n)
{
    if (n.below && n.above)
        return among_counts(q, n);
    const struct prof_curve *c = n.below ? n.below : n.above;
    double share = coll_work_share(q->op, q->gpus) / coll_work_share(q->op, c->gpus);
    double first = c->time_s[0], rest = prof_curve_s(c, q->bytes) - first;
    return first * (1 + 0.35 * fmax(0, log2((double)q->gpus / c->gpus))) + share * rest;
}

/* A count between two others is known better than one beyond them: on the H100, 4 GPUs from 2 and 8
 * are off by half as much as 4 from 2 (the accuracy page has both). */
static const double among_counts_half = 0.5;

static struct prediction other_count(const struct prof_net *p, const struct coll_query *q,
                                     struct neighbours n)
{
    const struct prof_curve *c = n.below ? n.below : n.above, *d = n.above ? n.above : n.below;
    int large = q->bytes >= 1048576;
    double doublings = fmax(1, fabs(log2((double)q->gpus / c->gpus)));
    double curves = fmax(curve_half(p, c, q->bytes), curve_half(p, d, q->bytes));
    double half = hypot(curves, p->half[PROF_COUNT][large] *
                                    (n.below && n.above ? among_counts_half : doublings));
    bool borrowed = c->origin == PROF_BORROWED || d->origin == PROF_BORROWED;
    return (struct prediction){.time = interval_of(other_count_s(q, n), half),
                               .class = borrowed ? PROF_BORROWED : PROF_COUNT,
                               .in_range = n.below && n.above && within(c, q->bytes),
                               .regime = "GPU count not measured"};
}

/* NIC seconds: what one GPU's NIC must carry. A ring passes every NIC once around: wire share of
 * the buffer over all NICs of a node; in an all-to-all each GPU's own NIC carries what it owes to
 * other nodes. */
static double nic_s(const struct prof_between *b, const struct coll_query *q)
{
    double per_node = (double)q->gpus / q->nodes, rate = q->nic_bytes_per_s * b->efficiency[q->op];
    if (q->op == COLL_SEND_RECV)
        return q->bytes / rate;
    if (q->op == COLL_ALLTOALL)
        return q->bytes * (q->gpus - per_node) / q->gpus / rate;
    double gain = q->op == COLL_ALL_REDUCE && q->nodes == 2 ? b->pair_gain : 1;
    return q->bytes * coll_wire_share(q->op, q->gpus) / (per_node * rate * gain);
}

/* What the same call needs inside a node, if all data stayed there: NVLink bounds a fast network.
 */
static double inside_s(const struct prof_net *p, const struct coll_query *q)
{
    struct coll_query local = *q;
    local.nodes = 1;
    local.gpus = q->gpus / q->nodes;
    if (local.gpus < 2 || q->op == COLL_SEND_RECV)
        return 0;
    if (q->op == COLL_ALLTOALL)
        local.bytes = q->bytes / q->nodes;
    return prof_collective(p, &local).time.value_s;
}

static struct prediction between_nodes(const struct prof_net *p, const struct coll_query *q)
{
    const struct prof_between *b = &p->between;
    double wire = nic_s(b, q), inside = inside_s(p, q);
    double network = b->latency_s + b->node_latency_s * log2(q->nodes) + wire +
                     b->excess_s * wire / (wire + b->knee_s);
    double share =
        q->op == COLL_ALLTOALL
            ? 1
            : 0.5; /* of the local time that is not hidden behind the wire, at most: a bound */
    return (struct prediction){
        .time =
            interval_of(fmax(network, share * inside + b->latency_s), b->half[q->bytes >= 1048576]),
        .class = PROF_BETWEEN,
        .in_range = false,
        .regime = network >= share * inside + b->latency_s ? "network" : "NVLink"};
}

/* A message to one peer is what each of two ranks sends in an all-to-all of twice the size. */
static struct prediction send_recv(const struct prof_net *p, const struct coll_query *q)
{
    struct coll_query pair = {
        .op = COLL_ALLTOALL, .type = COLL_ANY, .bytes = 2 * q->bytes, .gpus = 2, .nodes = 1};
    struct prediction r = prof_collective(p, &pair);
    r.class = r.class < PROF_COUNT ? PROF_COUNT : r.class;
    r.time = interval_of(r.time.value_s,
                         hypot(log(r.time.high_s / r.time.value_s), p->half[PROF_COUNT][1]));
    r.regime = "as an all-to-all of two";
    return r;
}

struct prediction prof_collective(const struct prof_net *p, const struct coll_query *q)
{
    assert(q->bytes > 0 && q->gpus >= 2 && q->nodes >= 1 && q->gpus % q->nodes == 0);
    struct neighbours n = neighbours(p, q);
    if (n.below && n.below == n.above)
        return on_curve(p, n.below, q->bytes);
    if (q->nodes > 1)
        return between_nodes(p, q);
    if (n.below || n.above)
        return other_count(p, q, n);
    return send_recv(p, q); /* load made sure that the other operations are there */
}
