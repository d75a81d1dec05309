/* The bitmap of every family. Most are ORs of products of axes: a block is kept when, along each
 * axis, some query position of the group sees some key position of the block; that is exact because
 * groups and blocks are boxes. Radial adds a test on frame pairs, content fields select by score.
 */
#include "traces/pattern.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"

static int grid_axis(struct grid g, int axis)
{
    return axis == 0 ? g.t : axis == 1 ? g.h : g.w;
}

/* What one query position sees along one axis: at most two runs of keys, [first, end). */
struct reach {
    int first, end, first2, end2;
};

/* The law of one axis: the reach of position x on an axis of n tokens. */
struct axis_law {
    enum { SEE_ALL, SEE_CLIPPED, SEE_SHIFTED, SEE_TILES, SEE_NEAR, SEE_CHUNK, SEE_FIRST } see;
    int width; /* window; tile windows in tiles; half width; chunk; number of first positions */
    int tile;
    int overlap, range, causal;
    int sink; /* the first `sink` positions are seen as well */
};

static int at_most(int a, int b)
{
    return a < b ? a : b;
}

static int at_least(int a, int b)
{
    return a > b ? a : b;
}

static struct reach reach_chunk(const struct axis_law *l, int x, int n)
{
    int own = x / l->width;
    if (l->causal)
        return (struct reach){at_least(0, own - l->range + 1) * l->width,
                              at_most(n, (own + 1) * l->width), 0, 0};
    return (struct reach){at_least(0, own * l->width - l->overlap),
                          at_most(n, (own + 1) * l->width + l->overlap), 0, 0};
}

static struct reach reach_shifted(int x, int n, int width)
{
    int first = at_most(at_least(0, x - width / 2), at_least(0, n - width));
    return (struct reach){first, at_most(n, first + width), 0, 0};
}

static struct reach reach_of(const struct axis_law *l, int x, int n)
{
    struct reach r = {0, n, 0, 0};
    switch (l->see) {
    case SEE_ALL:
        break;
    case SEE_CLIPPED:
        r = (struct reach){at_least(0, x - l->width / 2), at_most(n, x - l->width / 2 + l->width),
                           0, 0};
        break;
    case SEE_SHIFTED:
        r = reach_shifted(x, n, l->width);
        break;
    case SEE_TILES:
        r = reach_shifted(x / l->tile, 1 + (n - 1) / l->tile, l->width);
        r = (struct reach){r.first * l->tile, at_most(n, r.end * l->tile), 0, 0};
        break;
    case SEE_NEAR:
        r = (struct reach){at_least(0, x - l->width), at_most(n, x + l->width + 1), 0, 0};
        break;
    case SEE_CHUNK:
        r = reach_chunk(l, x, n);
        break;
    case SEE_FIRST:
        r = (struct reach){0, at_most(n, l->width), 0, 0};
        break;
    }
    r.end2 = at_most(l->sink, n);
    return r;
}

/* ok[g * blocks + b] per axis: does some position of group g see some position of block b? */
struct term {
    bool *ok[3];
};

static bool *axis_table(const struct tiling *t, int axis, const struct axis_law *l, struct arena *a)
{
    int n = grid_axis(t->grid, axis), ng = t->group.axis[axis], nb = t->block.axis[axis];
    bool *ok = ARENA_ARRAY(a, bool, (size_t)ng *(size_t)nb);
    for (int x = 0; x < n; x++) {
        struct reach r = reach_of(l, x, n);
        bool *row = ok + (size_t)(x / t->group.side[axis]) * (size_t)nb;
        for (int y = r.first; y < r.end; y++)
            row[y / t->block.side[axis]] = true;
        for (int y = r.first2; y < r.end2; y++)
            row[y / t->block.side[axis]] = true;
    }
    return ok;
}

static void term_fill(const struct tiling *t, const struct term *m, const struct mask *mask)
{
    const int *na = t->group.axis, *nb = t->block.axis;
    for (int g = 0; g < t->group.count; g++) {
        const bool *w = m->ok[2] + (size_t)(g % na[2]) * (size_t)nb[2];
        const bool *h = m->ok[1] + (size_t)(g / na[2] % na[1]) * (size_t)nb[1];
        const bool *f = m->ok[0] + (size_t)(g / na[2] / na[1]) * (size_t)nb[0];
        uint64_t *row = mask_row(mask, g);
        for (int bt = 0; bt < nb[0]; bt++)
            for (int bh = 0; bh < nb[1]; bh++) {
                if (!f[bt] || !h[bh])
                    continue;
                int base = (bt * nb[1] + bh) * nb[2];
                for (int bw = 0; bw < nb[2]; bw++)
                    if (w[bw])
                        bits_set(row, base + bw);
            }
    }
}

static void fill_product(const struct tiling *t, const struct axis_law law[3], struct arena *a,
                         const struct mask *mask)
{
    struct term m;
    for (int i = 0; i < 3; i++)
        m.ok[i] = axis_table(t, i, &law[i], a);
    term_fill(t, &m, mask);
}

/* Width of a window along an axis: given, or the share of the axis rounded to whole tokens. */
static int window_width(const struct pattern *p, int axis, int n)
{
    double given = axis == 0 ? p->t : axis == 1 ? p->h : p->w;
    return given > 0 ? (int)given : at_least(1, (int)floor(p->share * n + 0.5));
}

static struct axis_law window_law(const struct pattern *p, struct grid grid, int axis)
{
    int n = grid_axis(grid, axis), width = window_width(p, axis, n);
    if (p->kind != PATTERN_TILE)
        return (struct axis_law){
            .see = p->kind == PATTERN_WINDOW && p->edge == EDGE_SHIFTED ? SEE_SHIFTED : SEE_CLIPPED,
            .width = width};
    int tile = (int)(axis == 0 ? p->tile_t : axis == 1 ? p->tile_h : p->tile_w);
    return (struct axis_law){
        .see = SEE_TILES, .tile = tile, .width = at_least(1, (width + tile / 2) / tile)};
}

static void mask_dense(const struct pattern *p, const struct tiling *t, struct field_key key,
                       struct arena *a, const struct mask *m)
{
    (void)p, (void)key, (void)a;
    for (int g = 0; g < t->group.count; g++)
        bits_fill(mask_row(m, g), 0, m->blocks);
}

static void mask_window(const struct pattern *p, const struct tiling *t, struct field_key key,
                        struct arena *a, const struct mask *m)
{
    (void)key;
    struct axis_law law[3];
    for (int i = 0; i < 3; i++)
        law[i] = window_law(p, t->grid, i);
    fill_product(t, law, a, m);
}

static void mask_spatial(const struct pattern *p, const struct tiling *t, struct field_key key,
                         struct arena *a, const struct mask *m)
{
    (void)key;
    struct axis_law law[3] = {{.see = SEE_NEAR, .width = (int)p->frames, .sink = p->sink > 0},
                              {.see = SEE_ALL},
                              {.see = SEE_ALL}};
    fill_product(t, law, a, m);
}

static void mask_temporal(const struct pattern *p, const struct tiling *t, struct field_key key,
                          struct arena *a, const struct mask *m)
{
    (void)key;
    struct axis_law near = {.see = SEE_NEAR, .width = (int)p->radius}, all = {.see = SEE_ALL};
    fill_product(t, (struct axis_law[3]){all, near, near}, a, m);
    if (p->sink > 0)
        fill_product(t, (struct axis_law[3]){{.see = SEE_FIRST, .width = 1}, all, all}, a, m);
}

static void mask_factor(const struct pattern *p, const struct tiling *t, struct field_key key,
                        struct arena *a, const struct mask *m)
{
    (void)key;
    struct axis_law own = {.see = SEE_NEAR, .width = 0}, all = {.see = SEE_ALL};
    struct axis_law frame[3] = {own, all, all}, position[3] = {all, own, own};
    fill_product(t, p->axis > 0 ? position : frame, a, m);
}

static void rows_fill_frames(const struct tiling *t, int frames, const struct mask *m)
{
    for (int g = 0; g < t->group.count; g++) {
        int first, end;
        cubes_range(&t->group, t->grid, g, 0, &first, &end);
        if (first < frames)
            bits_fill(mask_row(m, g), 0, m->blocks);
    }
}

static void mask_chunk(const struct pattern *p, const struct tiling *t, struct field_key key,
                       struct arena *a, const struct mask *m)
{
    (void)key;
    struct axis_law all = {.see = SEE_ALL};
    struct axis_law frames = {.see = SEE_CHUNK,
                              .width = (int)p->chunk,
                              .overlap = (int)p->overlap,
                              .range = (int)p->range,
                              .causal = p->causal > 0,
                              .sink = (int)p->global};
    fill_product(t, (struct axis_law[3]){frames, all, all}, a, m);
    rows_fill_frames(t, (int)p->global, m); /* global queries see everything */
}

/* ---- radial ---- */

static int bit_length(int x)
{
    int n = 0;
    for (; x > 0; x >>= 1)
        n++;
    return n;
}

/* Half width of the band between frames at distance d, or -1 when the pair is dropped. */
static double radial_width(const struct pattern *p, int distance, int positions)
{
    if (distance <= p->full)
        return positions;
    double length = ldexp(1.0, bit_length(positions) - bit_length(distance));
    if (length < p->band && distance % (int)(p->band / length) != 0)
        return -1;
    return fmax(p->band, length * p->decay);
}

/* The widest band of any frame pair of a (group layer, block layer). */
static double radial_layer(const struct pattern *p, const struct tiling *t, int group, int block)
{
    double widest = -1;
    for (int q = group * t->group.side[0]; q < at_most(t->grid.t, (group + 1) * t->group.side[0]);
         q++)
        for (int k = block * t->block.side[0];
             k < at_most(t->grid.t, (block + 1) * t->block.side[0]); k++) {
            if (p->sink > 0 && k == 0)
                return INFINITY;
            widest = fmax(widest, radial_width(p, abs(q - k), t->grid.h * t->grid.w));
        }
    return widest;
}

/* Least |i - j| of raster positions i = y w + x in two boxes of one frame, given the ranges of y
 * and x apart. */
static int raster_distance(int y_least, int y_most, int x_least, int x_most, int width)
{
    int best = abs(y_least * width + x_least);
    for (int dy = y_least; dy <= y_most; dy++) {
        int low = dy * width + x_least, high = dy * width + x_most;
        int d = low > 0 ? low : high < 0 ? -high : 0;
        best = at_most(best, d);
    }
    return best;
}

static int cube_distance(const struct tiling *t, int group, int block)
{
    int q[2][2], k[2][2];
    for (int i = 0; i < 2; i++) {
        cubes_range(&t->group, t->grid, group, i + 1, &q[i][0], &q[i][1]);
        cubes_range(&t->block, t->grid, block, i + 1, &k[i][0], &k[i][1]);
    }
    return raster_distance(k[0][0] - (q[0][1] - 1), k[0][1] - 1 - q[0][0], k[1][0] - (q[1][1] - 1),
                           k[1][1] - 1 - q[1][0], t->grid.w);
}

static void mask_radial(const struct pattern *p, const struct tiling *t, struct field_key key,
                        struct arena *a, const struct mask *m)
{
    (void)key;
    int gs = t->group.axis[1] * t->group.axis[2], bs = t->block.axis[1] * t->block.axis[2];
    double *width = ARENA_ARRAY(a, double, t->block.axis[0]);
    int32_t *distance = ARENA_ARRAY(a, int32_t, bs);
    for (int g = 0; g < gs; g++) {
        for (int b = 0; b < bs; b++)
            distance[b] = cube_distance(t, g, b);
        for (int layer = 0; layer < t->group.axis[0]; layer++) {
            for (int b = 0; b < t->block.axis[0]; b++)
                width[b] = radial_layer(p, t, layer, b);
            uint64_t *row = mask_row(m, layer * gs + g);
            for (int b = 0; b < m->blocks; b++)
                if (distance[b % bs] <= width[b / bs])
                    bits_set(row, b);
        }
    }
}

/* ---- selection ---- */

static bool before(const double *weight, int a, int b)
{
    return weight[a] > weight[b] || (weight[a] == weight[b] && a < b);
}

static void swap_int(int *a, int *b)
{
    int t = *a;
    *a = *b;
    *b = t;
}

/* Puts a pivot of work[lo, hi) at its place, heavier ones before it; returns that place. */
static int partition(const double *weight, int *work, int lo, int hi)
{
    int middle = lo + (hi - lo) / 2, last = hi - 1;
    if (before(weight, work[middle], work[lo]))
        swap_int(&work[middle], &work[lo]);
    if (before(weight, work[last], work[lo]))
        swap_int(&work[last], &work[lo]);
    if (before(weight, work[middle], work[last])) /* the median goes last */
        swap_int(&work[middle], &work[last]);
    int pivot = work[last], place = lo;
    for (int i = lo; i < last; i++)
        if (before(weight, work[i], pivot))
            swap_int(&work[i], &work[place++]);
    swap_int(&work[place], &work[last]);
    return place;
}

int select_mass(const double *weight, int blocks, double mass, int *work, uint64_t *row)
{
    double total = 0, have = 0;
    for (int b = 0; b < blocks; b++) {
        work[b] = b;
        total += weight[b];
    }
    int lo = 0, hi = blocks;
    while (lo < hi && have < mass * total) {
        int place = partition(weight, work, lo, hi);
        double part = 0;
        for (int i = lo; i < place; i++)
            part += weight[work[i]];
        if (have + part >= mass * total) {
            hi = place;
            continue;
        }
        have += part + weight[work[place]];
        lo = place + 1;
    }
    for (int i = 0; i < lo; i++)
        bits_set(row, work[i]);
    return lo;
}

void select_top(const double *scores, int blocks, int count, int *work, uint64_t *row)
{
    for (int b = 0; b < blocks; b++)
        work[b] = b;
    for (int lo = 0, hi = blocks; lo < hi;) {
        int place = partition(scores, work, lo, hi);
        if (place == count)
            break;
        if (place < count)
            lo = place + 1;
        else
            hi = place;
    }
    for (int i = 0; i < count; i++)
        bits_set(row, work[i]);
}

/* ---- content ---- */

struct content { /* one head being selected */
    const struct pattern *p;
    const struct tiling *t;
    struct field field;
    double beta, threshold;
    int count;
    float *score;   /* [blocks] scratch */
    double *weight; /* [blocks] scratch */
    int *work;      /* [blocks] scratch */
};

static int content_row(const struct content *c, int group, uint64_t *row)
{
    int blocks = c->field.blocks;
    field_scores(&c->field, group, c->score);
    float most = c->score[0];
    for (int b = 1; b < blocks; b++)
        most = c->score[b] > most ? c->score[b] : most;
    if (c->p->select == SELECT_TOPP) {
        for (int b = 0; b < blocks; b++)
            c->weight[b] = c->t->block.tokens[b] * exp(c->beta * (double)(c->score[b] - most));
        return select_mass(c->weight, blocks, c->p->mass, c->work, row);
    }
    int kept = 0;
    for (int b = 0; b < blocks; b++)
        c->weight[b] = c->score[b];
    if (c->p->select == SELECT_TOPK) {
        select_top(c->weight, blocks, c->count, c->work, row);
        return c->count;
    }
    for (int b = 0; b < blocks; b++)
        if (c->weight[b] > c->threshold || c->score[b] == most) { /* no query goes without a key */
            bits_set(row, b);
            kept++;
        }
    return kept;
}

enum { SAMPLE_GROUPS = 48, BETA_STEPS = 16 };

/* Sample i of the groups: steps of the golden ratio, so that no axis is sampled along one face. */
static int sample_group(int i, int groups)
{
    return (int)(fmod(i * 0.6180339887498949, 1.0) * groups);
}

static double content_sample_keep(const struct content *c, uint64_t *row, size_t words)
{
    int groups = c->field.groups, samples = at_most(groups, SAMPLE_GROUPS);
    double kept = 0;
    for (int i = 0; i < samples; i++) {
        memset(row, 0, words * sizeof *row);
        kept += content_row(c, sample_group(i, groups), row);
    }
    return kept / samples / c->field.blocks;
}

/* beta at which the sampled groups keep `keep` on average: keep falls as beta grows. */
static void content_fit_beta(struct content *c, double keep, size_t words, struct arena *a)
{
    uint64_t *row = ARENA_ARRAY(a, uint64_t, words);
    double low = -6, high = 6; /* ln beta */
    for (int i = 0; i < BETA_STEPS; i++) {
        double middle = 0.5 * (low + high);
        c->beta = exp(middle);
        if (content_sample_keep(c, row, words) > keep)
            low = middle;
        else
            high = middle;
    }
}

static void content_fit_threshold(struct content *c, double keep, struct arena *a)
{
    int groups = c->field.groups, samples = at_most(groups, SAMPLE_GROUPS),
        blocks = c->field.blocks;
    double *all = ARENA_ARRAY(a, double, (size_t)samples *(size_t)blocks);
    int *work = ARENA_ARRAY(a, int, samples *blocks);
    for (int i = 0; i < samples; i++) {
        field_scores(&c->field, sample_group(i, groups), c->score);
        for (int b = 0; b < blocks; b++)
            all[i * blocks + b] = c->score[b];
    }
    int count = at_least(1, (int)(keep * samples * blocks));
    uint64_t *row = ARENA_ARRAY(a, uint64_t, ((size_t)samples * (size_t)blocks + 63) / 64);
    select_top(all, samples * blocks, count, work, row);
    c->threshold = all[work[0]];
    for (int i = 0; i < count; i++)
        c->threshold = fmin(c->threshold, all[work[i]]);
}

static void mask_field(const struct pattern *p, const struct tiling *t, struct field_key key,
                       struct arena *a, const struct mask *m)
{
    struct field_law law = {(int)p->rank, p->lq, p->lk, p->share_length > 0, p->rho, p->sinks};
    struct content c = {.p = p, .t = t, .beta = p->beta};
    field_make(t, &law, key, a, &c.field);
    c.score = ARENA_ARRAY(a, float, m->blocks);
    c.weight = ARENA_ARRAY(a, double, m->blocks);
    c.work = ARENA_ARRAY(a, int, m->blocks);
    double keep = isnan(p->keep) ? 0.1 : p->keep;
    c.count = at_most(m->blocks, at_least(1, (int)floor(keep * m->blocks + 0.5)));
    if (p->select == SELECT_TOPP && !isnan(p->keep))
        content_fit_beta(&c, keep, m->words, a);
    if (p->select == SELECT_THRESHOLD)
        content_fit_threshold(&c, keep, a);
    for (int g = 0; g < t->group.count; g++)
        content_row(&c, g, mask_row(m, g));
}

/* ---- local + random + global ---- */

static void row_random(uint64_t *row, int blocks, int count, struct rng *r, int *work)
{
    for (int b = 0; b < blocks; b++)
        work[b] = b;
    for (int i = 0; i < count; i++) {
        swap_int(&work[i], &work[i + (int)rng_below(r, (uint64_t)(blocks - i))]);
        bits_set(row, work[i]);
    }
}

static void mask_local(const struct pattern *p, const struct tiling *t, struct field_key key,
                       struct arena *a, const struct mask *m)
{
    mask_window(p, t, key, a, m);
    int *work = ARENA_ARRAY(a, int, m->blocks), count = (int)floor(p->random * m->blocks + 0.5);
    uint64_t place = (uint64_t)key.block << 32 | (uint32_t)key.head;
    for (int g = 0; g < m->groups; g++) {
        struct rng r = rng_stream(key.seed, "local-random", place, (uint64_t)key.step, (uint64_t)g);
        row_random(mask_row(m, g), m->blocks, count, &r, work);
    }
    int globals = at_most((int)p->global, m->blocks);
    for (int i = 0; i < globals; i++) {
        int b = (int)((int64_t)i * m->blocks / globals);
        bits_fill(mask_row(m, tiling_group_of_block(t, b)), 0, m->blocks);
        for (int g = 0; g < m->groups; g++)
            bits_set(mask_row(m, g), b);
    }
}

/* ---- pruning ---- */

/* Groups that stay: those with the largest values of a smooth importance field. */
static uint64_t *prune_groups(const struct pattern *p, const struct tiling *t, struct field_key key,
                              double keep, const char *name, struct arena *a)
{
    int groups = t->group.count;
    double *value = ARENA_ARRAY(a, double, groups);
    int *work = ARENA_ARRAY(a, int, groups);
    uint64_t *stays = ARENA_ARRAY(a, uint64_t, (size_t)(groups + 63) / 64);
    field_sample(&t->group, t->grid, p->prune_length, false, name, key, 0, a, value);
    select_top(value, groups, at_least(1, (int)floor(keep * groups + 0.5)), work, stays);
    return stays;
}

static void mask_prune(const struct pattern *p, const struct tiling *t, struct field_key key,
                       struct arena *a, const struct mask *m)
{
    if (p->keep_nodes < 1) { /* node pruning serves all later layers, so its stream has no head */
        struct field_key layer = {key.seed, key.block, 0, key.step};
        uint64_t *stays = prune_groups(p, t, layer, p->keep_nodes, "prune-nodes", a);
        uint64_t *columns = ARENA_ARRAY(a, uint64_t, m->words);
        for (int b = 0; b < m->blocks; b++)
            if (bits_get(stays, tiling_group_of_block(t, b)))
                bits_set(columns, b);
        for (int g = 0; g < m->groups; g++)
            for (size_t i = 0; i < m->words; i++)
                mask_row(m, g)[i] &= bits_get(stays, g) ? columns[i] : 0;
    }
    if (p->keep_q < 1) {
        uint64_t *stays = prune_groups(p, t, key, p->keep_q, "prune-queries", a);
        for (int g = 0; g < m->groups; g++)
            if (!bits_get(stays, g))
                memset(mask_row(m, g), 0, m->words * sizeof *m->bits);
    }
}

static void (*const families[PATTERN_KINDS])(const struct pattern *, const struct tiling *,
                                             struct field_key, struct arena *,
                                             const struct mask *) = {
    mask_dense,  mask_window, mask_window, mask_spatial, mask_temporal,
    mask_radial, mask_field,  mask_local,  mask_chunk,   mask_factor};

void pattern_mask(const struct pattern *p, const struct tiling *t, struct field_key key,
                  double keep, struct arena *a, struct mask *out)
{
    struct pattern mine = *p;
    if (!isnan(keep))
        mine.keep = keep;
    *out = mask_new(t->group.count, t->block.count, a);
    struct arena *scratch = arena_new();
    families[p->kind](&mine, t, key, scratch, out);
    mask_prune(&mine, t, key, scratch, out);
    arena_free(scratch);
}

/* ---- closed forms ---- */

static double axis_mean(const struct axis_law *l, int n)
{
    double seen = 0;
    for (int x = 0; x < n; x++) {
        struct reach r = reach_of(l, x, n);
        seen += r.end - r.first;
    }
    return seen / n / n;
}

/* Pairs |i - j| <= w of s positions: s (2w + 1) - w (w + 1). */
static double band_pairs(double s, double w)
{
    w = fmin(floor(w), s - 1);
    return s * (2 * w + 1) - w * (w + 1);
}

static double radial_keep(const struct pattern *p, struct grid g)
{
    double s = (double)g.h * g.w, pairs = 0;
    for (int q = 0; q < g.t; q++)
        for (int k = 0; k < g.t; k++) {
            double w = p->sink > 0 && k == 0 ? s : radial_width(p, abs(q - k), g.h * g.w);
            pairs += w < 0 ? 0 : band_pairs(s, w);
        }
    return pairs / (s * s) / ((double)g.t * g.t);
}

double pattern_closed_keep(const struct pattern *p, struct grid grid)
{
    if (p->kind == PATTERN_DENSE)
        return 1;
    if (p->kind == PATTERN_RADIAL)
        return radial_keep(p, grid);
    if (p->kind != PATTERN_WINDOW && p->kind != PATTERN_TILE)
        return NAN;
    double keep = 1;
    for (int i = 0; i < 3; i++) {
        struct axis_law law = window_law(p, grid, i);
        keep *= axis_mean(&law, grid_axis(grid, i));
    }
    return keep;
}
