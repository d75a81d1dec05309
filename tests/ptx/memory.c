/* Loads, stores and atomic operations: global, shared, local, parameters. */
#include "tests/ptx/machine.h"

/* ---- global memory ---- */

static bool inside(struct ptx_range r, uint64_t at, uint32_t bytes)
{
    return at >= r.start && at + bytes <= r.start + r.bytes && at + bytes >= at;
}

/* The allocation that `at` is in, or the last that begins before it. */
static struct ptx_range range_of(const struct ptx_launch *l, uint64_t at)
{
    size_t low = 0, high = l->ranges;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (l->allocated[middle].start <= at)
            low = middle;
        else
            high = middle;
    }
    return l->ranges ? l->allocated[low] : (struct ptx_range){0, 0};
}

void *global_at(struct warp *w, int lane, uint64_t at, uint32_t bytes, uint32_t align)
{
    struct block *b = w->b;
    if (at % align) {
        fault(w, lane, "global address %#llx is no multiple of %u", (unsigned long long)at, align);
        return NULL;
    }
    if (b->launch->allocated && !inside(b->recent, at, bytes)) {
        struct ptx_range r = range_of(b->launch, at);
        if (!inside(r, at, bytes)) {
            fault(w, lane,
                  "%u bytes at global address %#llx, which nobody allocated (the allocation "
                  "before begins %lld bytes before and has %zu)",
                  bytes, (unsigned long long)at, (long long)(at - r.start), r.bytes);
            return NULL;
        }
        b->recent = r;
    }
    if (at < 4096) {
        fault(w, lane, "global address %#llx", (unsigned long long)at);
        return NULL;
    }
    return (void *)(uintptr_t)at;
}

/* ---- counts ---- */

/* One wavefront's worth of lanes: the most different words of one bank. */
static uint32_t conflicts(const uint32_t *word, int n, uint32_t *different)
{
    uint32_t deep[LANES] = {0}, most = 0;
    for (int i = 0; i < n; i++) {
        int j = 0;
        while (j < i && word[j] != word[i])
            j++;
        if (j < i)
            continue;
        uint32_t d = ++deep[word[i] % LANES];
        most = d > most ? d : most;
        ++*different;
    }
    return most;
}

void count_shared(struct warp *w, const uint32_t *at, uint32_t lanes, uint32_t bytes)
{
    struct ptx_counts *c = w->b->counts;
    if (!c)
        return;
    uint32_t words = bytes < 4 ? 1 : bytes / 4, phase = LANES / words, different = 0;
    c->shared_requests++;
    for (uint32_t first = 0; first < LANES; first += phase) {
        uint32_t word[LANES];
        int n = 0;
        EACH_LANE(l, lanes & ((phase == LANES ? ALL_LANES : (1u << phase) - 1) << first))
        for (uint32_t k = 0; k < words; k++)
            word[n++] = at[l] / 4 + k;
        c->shared_wavefronts += conflicts(word, n, &different);
    }
    c->shared_wavefronts_ideal += (different + LANES - 1) / LANES;
}

void count_global(uint64_t *sectors, const uint64_t *at, uint32_t lanes, uint32_t bytes)
{
    uint64_t known[2 * LANES];
    int n = 0;
    EACH_LANE(l, lanes)
    for (uint64_t s = at[l] / 32; s <= (at[l] + bytes - 1) / 32; s++) {
        int j = n - 1;
        while (j >= 0 && known[j] != s)
            j--;
        if (j < 0)
            known[n++] = s;
    }
    *sectors += (uint64_t)n;
}

static void count_request(struct warp *w, const struct ins *i, const uint64_t *at, uint32_t lanes,
                          uint32_t bytes)
{
    struct ptx_counts *c = w->b->counts;
    bool load = i->dsts > 0;
    if (!c)
        return;
    *(load ? &c->global_load_requests : &c->global_store_requests) += 1;
    *(load ? &c->global_load_bytes : &c->global_store_bytes) +=
        (uint64_t)bytes * (uint64_t)__builtin_popcount(lanes);
    count_global(load ? &c->global_load_sectors : &c->global_store_sectors, at, lanes, bytes);
}

/* ---- where a lane's bytes are ---- */

static void addresses(struct warp *w, const struct ins *i, uint32_t lanes, uint64_t *at)
{
    int bits = i->src_bits[0];
    const uint32_t *row = row_of(w, i->src[0]);
    EACH_LANE(l, lanes)
    at[l] = bits == 64 ? ((const u64 *)row)[l] + i->value : (uint32_t)(row[l] + i->value);
}

static unsigned char *shared_at(struct warp *w, int lane, uint64_t at, uint32_t bytes,
                                enum access a)
{
    if (at > UINT32_MAX || !order_access(w, lane, (uint32_t)at, bytes, bytes, a)) {
        if (at > UINT32_MAX)
            fault(w, lane, "shared address %#llx", (unsigned long long)at);
        return NULL;
    }
    return w->b->shared + at;
}

static unsigned char *small_at(struct warp *w, int lane, uint64_t at, uint32_t bytes,
                               unsigned char *base, size_t size, const char *what)
{
    if (at % bytes || at > size || at + bytes > size) {
        fault(w, lane, "%u bytes at %llu of %zu of %s memory", bytes, (unsigned long long)at, size,
              what);
        return NULL;
    }
    return base + at;
}

static unsigned char *bytes_at(struct warp *w, int lane, enum space s, uint64_t at, uint32_t bytes,
                               enum access a)
{
    if (s == SPACE_GENERIC) {
        s = (enum space)(at >> 60);
        at &= (1ull << 60) - 1;
        s = s == SPACE_GENERIC ? SPACE_GLOBAL : s;
    }
    size_t local = w->b->kernel->local_bytes;
    switch (s) {
    case SPACE_SHARED:
        return shared_at(w, lane, at, bytes, a);
    case SPACE_LOCAL:
        return small_at(w, lane, at, bytes, w->local + local * (size_t)lane, local, "local");
    case SPACE_PARAM:
        if (a != ACCESS_READ) {
            fault(w, lane, "a parameter is written");
            return NULL;
        }
        return small_at(w, lane, at, bytes, w->b->param, w->b->code->param_bytes, "parameter");
    default:
        return global_at(w, lane, at, bytes, bytes);
    }
}

/* ---- ld and st ---- */

static void put(struct warp *w, int row, int bits, uint32_t lane, const unsigned char *from,
                const struct ins *i)
{
    uint64_t x = 0;
    memcpy(&x, from, i->size);
    if (i->how && i->size < 8) {
        unsigned shift = 64 - 8u * i->size;
        x = (uint64_t)((int64_t)(x << shift) >> shift);
    }
    if (bits == 64)
        ((u64 *)row_of(w, row))[lane] = x;
    else if (bits == 32)
        row_of(w, row)[lane] = (uint32_t)x;
    else
        ((u16 *)row_of(w, row))[lane] = (uint16_t)x;
}

static void get(struct warp *w, int row, int bits, uint32_t lane, unsigned char *to,
                const struct ins *i)
{
    uint64_t x = bits == 64   ? ((const u64 *)row_of(w, row))[lane]
                 : bits == 32 ? row_of(w, row)[lane]
                              : ((const u16 *)row_of(w, row))[lane];
    memcpy(to, &x, i->size);
}

static void count_access(struct warp *w, const struct ins *i, const uint64_t *at, uint32_t lanes,
                         uint32_t bytes)
{
    if (!w->b->counts)
        return;
    if (i->space == SPACE_SHARED) {
        uint32_t small[LANES];
        EACH_LANE(l, lanes)
        small[l] = (uint32_t)at[l];
        count_shared(w, small, lanes, bytes);
    } else if (i->space == SPACE_GLOBAL ||
               (i->space == SPACE_GENERIC && at[__builtin_ctz(lanes)] >> 60 == 0)) {
        count_request(w, i, at, lanes, bytes);
    }
}

static bool run_ld(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint64_t at[LANES];
    uint32_t bytes = (uint32_t)i->size * i->dsts;
    addresses(w, i, lanes, at);
    EACH_LANE(l, lanes)
    {
        const unsigned char *from =
            bytes_at(w, (int)l, (enum space)i->space, at[l], bytes, ACCESS_READ);
        if (!from)
            return false;
        for (int k = 0; k < i->dsts; k++)
            if (i->size == 4 && i->dst_bits[k] == 32)
                row_of(w, i->dst[k])[l] = ((const u32 *)(const void *)from)[k];
            else
                put(w, i->dst[k], i->dst_bits[k], l, from + k * i->size, i);
    }
    count_access(w, i, at, lanes, bytes);
    return true;
}

/* One value to all lanes. */
static void splat(struct warp *w, int row, int bits, uint32_t lanes, const unsigned char *from,
                  const struct ins *i)
{
    uint32_t first = (uint32_t)__builtin_ctz(lanes);
    put(w, row, bits, first, from, i);
    if (bits == 64) {
        u64 *r = (u64 *)row_of(w, row), x = r[first];
        for (uint32_t l = 0; l < LANES; l++)
            r[l] = lanes >> l & 1 ? x : r[l];
    } else if (bits == 32) {
        uint32_t *r = row_of(w, row), x = r[first];
        for (uint32_t l = 0; l < LANES; l++)
            r[l] = lanes >> l & 1 ? x : r[l];
    } else {
        u16 *r = (u16 *)row_of(w, row), x = r[first];
        for (uint32_t l = 0; l < LANES; l++)
            r[l] = lanes >> l & 1 ? x : r[l];
    }
}

/* Parameters are the same for all lanes as a rule: one look for all. */
static bool run_ld_param(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint64_t at[LANES];
    uint32_t bytes = (uint32_t)i->size * i->dsts, first = (uint32_t)__builtin_ctz(lanes);
    addresses(w, i, lanes, at);
    bool same = true;
    EACH_LANE(l, lanes)
    same &= at[l] == at[first];
    if (!same)
        return run_ld(w, i, lanes);
    const unsigned char *from = bytes_at(w, (int)first, SPACE_PARAM, at[first], bytes, ACCESS_READ);
    for (int k = 0; from && k < i->dsts; k++)
        splat(w, i->dst[k], i->dst_bits[k], lanes, from + k * i->size, i);
    return from != NULL;
}

static bool run_st(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint64_t at[LANES];
    int n = i->srcs - 1;
    uint32_t bytes = (uint32_t)i->size * (uint32_t)n;
    addresses(w, i, lanes, at);
    EACH_LANE(l, lanes)
    {
        unsigned char *to = bytes_at(w, (int)l, (enum space)i->space, at[l], bytes, ACCESS_WRITE);
        if (!to)
            return false;
        for (int k = 0; k < n; k++)
            get(w, i->src[k + 1], i->src_bits[k + 1], l, to + k * i->size, i);
    }
    count_access(w, i, at, lanes, bytes);
    return true;
}

/* ---- atom and red ---- */

enum { OP_ADD, OP_MIN, OP_MAX, OP_AND, OP_OR, OP_XOR, OP_EXCH, OP_CAS, OP_INC, OP_DEC, OPS };
static const char *const op_names[OPS] = {"add", "min",  "max", "and", "or",
                                          "xor", "exch", "cas", "inc", "dec"};
enum { KIND_U, KIND_S, KIND_F };

static uint32_t float_result(uint32_t old, uint32_t b)
{
    float x, y;
    memcpy(&x, &old, 4);
    memcpy(&y, &b, 4);
    x += y;
    memcpy(&old, &x, 4);
    return old;
}

/* a: what is there; b and c: operands. 32-bit signed values come sign-extended. */
static uint64_t atomic_result(int op, int kind, uint64_t a, uint64_t b, uint64_t c)
{
    bool less = kind == KIND_S ? (int64_t)a < (int64_t)b : a < b;
    switch (op) {
    case OP_ADD:
        return kind == KIND_F ? float_result((uint32_t)a, (uint32_t)b) : a + b;
    case OP_MIN:
        return less ? a : b;
    case OP_MAX:
        return less ? b : a;
    case OP_AND:
        return a & b;
    case OP_OR:
        return a | b;
    case OP_XOR:
        return a ^ b;
    case OP_EXCH:
        return b;
    case OP_CAS:
        return a == b ? c : a;
    case OP_INC:
        return a >= b ? 0 : a + 1;
    default:
        return a == 0 || a > b ? b : a - 1;
    }
}

static uint64_t widened(uint64_t x, int size, int kind)
{
    if (size == 8)
        return x;
    return kind == KIND_S ? (uint64_t)(int64_t)(int32_t)x : (uint32_t)x;
}

/* Other host threads run other blocks: really atomic. */
static uint64_t atomic_do(void *at, int size, int op, int kind, uint64_t b, uint64_t c)
{
    b = widened(b, size, kind);
    c = widened(c, size, kind);
    if (size == 4) {
        uint32_t old = __atomic_load_n((u32 *)at, __ATOMIC_RELAXED), new;
        do
            new = (uint32_t)atomic_result(op, kind, widened(old, 4, kind), b, c);
        while (!__atomic_compare_exchange_n((u32 *)at, &old, new, true, __ATOMIC_SEQ_CST,
                                            __ATOMIC_RELAXED));
        return old;
    }
    uint64_t old = __atomic_load_n((u64 *)at, __ATOMIC_RELAXED), new;
    do
        new = atomic_result(op, kind, old, b, c);
    while (!__atomic_compare_exchange_n((u64 *)at, &old, new, true, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED));
    return old;
}

void global_add(void *at, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    atomic_do(at, 4, OP_ADD, KIND_F, bits, 0);
}

/* how: operator | kind << 4; srcs: address, then operands (or the vector's). */
static bool run_atomic(struct warp *w, const struct ins *i, uint32_t lanes)
{
    uint64_t at[LANES];
    int op = i->how & 15, kind = i->how >> 4, n = op == OP_CAS ? 1 : i->srcs - 1;
    uint32_t bytes = (uint32_t)i->size * (uint32_t)n;
    addresses(w, i, lanes, at);
    EACH_LANE(l, lanes)
    {
        unsigned char *to = bytes_at(w, (int)l, (enum space)i->space, at[l], bytes, ACCESS_ATOMIC);
        if (!to)
            return false;
        for (int k = 0; k < n; k++) {
            uint64_t b = 0, c = 0;
            get(w, i->src[k + 1], i->src_bits[k + 1], l, (unsigned char *)&b, i);
            if (op == OP_CAS)
                get(w, i->src[2], i->src_bits[2], l, (unsigned char *)&c, i);
            uint64_t old = atomic_do(to + k * i->size, i->size, op, kind, b, c);
            if (k < i->dsts && i->dst_bits[k] == 64)
                ((u64 *)row_of(w, i->dst[k]))[l] = old;
            else if (k < i->dsts)
                row_of(w, i->dst[k])[l] = (uint32_t)old;
        }
    }
    if (w->b->counts)
        *(i->space == SPACE_SHARED ? &w->b->counts->shared_atomics
                                   : &w->b->counts->global_atomics) +=
            (uint64_t)__builtin_popcount(lanes);
    return true;
}

/* ---- decoding ---- */

static const struct {
    const char *name;
    enum space space;
} spaces[] = {{"global", SPACE_GLOBAL}, {"shared", SPACE_SHARED}, {"shared::cta", SPACE_SHARED},
              {"local", SPACE_LOCAL},   {"param", SPACE_PARAM},   {"param::entry", SPACE_PARAM}};

/* What says how a cache should behave, or asks for an order that plain accesses of this machine
 * have anyway (blocks see each other's global memory at once). */
static const char *const hints[] = {"nc",
                                    "ca",
                                    "cg",
                                    "cs",
                                    "cv",
                                    "lu",
                                    "wb",
                                    "wt",
                                    "weak",
                                    "volatile",
                                    "relaxed",
                                    "acquire",
                                    "release",
                                    "acq_rel",
                                    "cta",
                                    "gpu",
                                    "sys",
                                    "L1::no_allocate",
                                    "L1::evict_last",
                                    "L1::evict_first",
                                    "L1::evict_normal",
                                    "L1::evict_unchanged",
                                    "L2::64B",
                                    "L2::128B",
                                    "L2::256B"};

struct modifiers {
    enum space space;
    int vector, op;
    const char *type;
};

static bool is_hint(const char *part)
{
    for (size_t i = 0; i < sizeof hints / sizeof *hints; i++)
        if (strcmp(hints[i], part) == 0)
            return true;
    return false;
}

static bool read_modifier(const char *part, struct modifiers *m)
{
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        if (strcmp(spaces[i].name, part) == 0) {
            m->space = spaces[i].space;
            return true;
        }
    for (int i = 0; i < OPS; i++)
        if (strcmp(op_names[i], part) == 0) {
            m->op = i;
            return true;
        }
    if (strcmp(part, "v2") == 0 || strcmp(part, "v4") == 0) {
        m->vector = part[1] - '0';
        return true;
    }
    return is_hint(part);
}

static bool read_modifiers(struct decoder *d, struct modifiers *m)
{
    *m = (struct modifiers){
        .space = SPACE_GENERIC, .vector = 1, .op = -1, .type = d->part[d->parts - 1]};
    for (int i = 1; i < d->parts - 1; i++)
        if (!read_modifier(d->part[i], m))
            return decode_wrong(d, "a load, store or atomic operation of an unknown kind");
    const char *t = m->type;
    bool number = t[0] && strchr("busf", t[0]) && strchr("1368", t[1]);
    d->i->size = !number ? 0 : t[1] == '8' ? 1 : t[1] == '1' ? 2 : t[1] == '3' ? 4 : 8;
    d->i->space = (uint8_t)m->space;
    return d->i->size > 0 || decode_wrong(d, "an unknown type");
}

static int register_bits(const struct decoder *d, const struct operand *o)
{
    static const int bits[] = {1, 16, 32, 64};
    return o->kind == OPERAND_REG && o->type != REG_PRED ? bits[o->type]
           : d->i->size < 4                              ? 16
                                                         : 8 * d->i->size;
}

/* Registers may be wider than what is loaded or stored. */
static bool decode_values(struct decoder *d, const struct operand *o, int n, bool dst)
{
    const struct operand *part = o->kind == OPERAND_VECTOR ? o->part : o;
    if ((o->kind == OPERAND_VECTOR ? o->parts : 1) != n)
        return decode_wrong(d, "not as many registers as the vector has");
    for (int k = 0; k < n; k++) {
        int bits = register_bits(d, &part[k]);
        if (bits < 8 * d->i->size)
            return decode_wrong(d, "a register that is too small");
        if (!(dst ? decode_dst : decode_src)(d, &part[k], bits))
            return false;
    }
    return true;
}

static bool decode_ld(struct decoder *d, struct modifiers m)
{
    const struct operand *o = d->s->operand;
    d->i->run = m.space == SPACE_PARAM ? run_ld_param : run_ld;
    d->i->cls = m.space == SPACE_PARAM    ? PTX_MOVE
                : m.space == SPACE_SHARED ? PTX_LD_SHARED
                : m.space == SPACE_LOCAL  ? PTX_LOCAL
                                          : PTX_LD_GLOBAL;
    if (!decode_operands(d, 2) || !decode_values(d, &o[0], m.vector, true) ||
        !decode_address(d, &o[1]))
        return false;
    d->i->how = m.type[0] == 's';
    return true;
}

static bool decode_st(struct decoder *d, struct modifiers m)
{
    const struct operand *o = d->s->operand;
    d->i->run = run_st;
    d->i->cls = m.space == SPACE_SHARED  ? PTX_ST_SHARED
                : m.space == SPACE_LOCAL ? PTX_LOCAL
                                         : PTX_ST_GLOBAL;
    return decode_operands(d, 2) && decode_address(d, &o[0]) &&
           decode_values(d, &o[1], m.vector, false);
}

static bool decode_atomic(struct decoder *d, struct modifiers m, bool result)
{
    const struct operand *o = d->s->operand;
    d->i->run = run_atomic;
    d->i->cls = PTX_ATOMIC;
    int kind = m.type[0] == 'f' ? KIND_F : m.type[0] == 's' ? KIND_S : KIND_U;
    if (m.op < 0 || d->i->size < 4 || (kind == KIND_F && (m.op != OP_ADD || d->i->size != 4)))
        return decode_wrong(d, "an atomic operation that this machine does not know");
    if (m.vector > 1 && (kind != KIND_F || m.space != SPACE_GLOBAL))
        return decode_wrong(d, "a vector of atomic operations is of floats in global memory");
    if (!decode_operands(d, 2 + result + (m.op == OP_CAS)) ||
        (result && !decode_values(d, &o[0], m.vector, true)) || !decode_address(d, &o[result]) ||
        !decode_values(d, &o[result + 1], m.vector, false) ||
        (m.op == OP_CAS && !decode_values(d, &o[result + 2], 1, false)))
        return false;
    d->i->how = (uint8_t)(m.op | kind << 4);
    return true;
}

bool decode_memory(struct decoder *d, bool *known)
{
    const char *what = d->part[0];
    bool ld = !strcmp(what, "ld") || !strcmp(what, "ldu"), st = !strcmp(what, "st");
    bool atom = !strcmp(what, "atom"), red = !strcmp(what, "red");
    struct modifiers m;
    *known = (ld || st || atom || red) && d->parts > 1 && strcmp(d->part[1], "async") != 0;
    if (!*known)
        return true;
    if (!read_modifiers(d, &m))
        return false;
    if (m.op >= 0 && (ld || st))
        return decode_wrong(d, "a load or store of an unknown kind");
    return ld ? decode_ld(d, m) : st ? decode_st(d, m) : decode_atomic(d, m, atom);
}
