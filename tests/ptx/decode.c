/* From statements to instructions: which function executes them, with which rows of registers. */
#include "tests/ptx/machine.h"

#include <stdlib.h>

enum { CONSTANT_BUCKETS = 4096 };

static int type_bits(enum reg_type t)
{
    static const int bits[] = {[REG_PRED] = 1, [REG_16] = 16, [REG_32] = 32, [REG_64] = 64};
    return bits[t];
}

bool decode_wrong(struct decoder *d, const char *what)
{
    return err_set(d->e, ERR_INPUT, (struct err_at){d->m->file, d->s->line, 0}, "%s: '%.*s'", what,
                   d->s->length < 200 ? d->s->length : 200, d->s->text);
}

bool decode_has(const struct decoder *d, const char *part)
{
    for (int i = 1; i < d->parts; i++)
        if (strcmp(d->part[i], part) == 0)
            return true;
    return false;
}

bool decode_operands(struct decoder *d, int n)
{
    return d->s->operands == n || decode_wrong(d, "not the number of operands this takes");
}

/* ---- constants ---- */

static uint32_t *constant_new(struct decoder *d, int rows)
{
    if (d->constants + rows > d->constant_room) {
        d->constant_room = 2 * d->constant_room + 64;
        uint32_t *more = ARENA_ARRAY(d->m->arena, uint32_t, (size_t)d->constant_room * LANES);
        if (d->constants)
            memcpy(more, d->constant, (size_t)d->constants * LANES * 4);
        d->constant = more;
    }
    d->constants += rows;
    return d->constant + (size_t)(d->constants - rows) * LANES;
}

static int constant_row(struct decoder *d, uint64_t value, int bits)
{
    bool wide = bits == 64;
    if (bits == 32)
        value &= ALL_LANES;
    if (bits == 16) /* 16-bit rows are [LANES] of 2 bytes */
        value = (value & 0xffff) * 0x10001;
    unsigned at = (unsigned)((value * 0x9e3779b97f4a7c15ull >> 40) + wide) % CONSTANT_BUCKETS;
    int known = d->constant_map[at] - 1; /* only the last of its bucket is remembered */
    uint64_t there;
    if (known >= 0 && (known & 1) == wide) {
        const uint32_t *row = d->constant + (size_t)(known >> 1) * LANES;
        memcpy(&there, row, 8);
        if (wide ? there == value : row[0] == (uint32_t)value)
            return ~(known >> 1);
    }
    int first = d->constants;
    uint32_t *row = constant_new(d, wide ? 2 : 1);
    for (int l = 0; l < LANES; l++)
        if (wide)
            ((u64 *)row)[l] = value;
        else
            row[l] = (uint32_t)value;
    d->constant_map[at] = (first << 1 | wide) + 1;
    return ~first;
}

/* ---- operands ---- */

static void push(struct decoder *d, bool dst, int row, int bits)
{
    struct ins *i = d->i;
    int n = dst ? i->dsts++ : i->srcs++;
    /* decode_kernel gave room for all operands of the statement, and some more */
    ((int *)(uintptr_t)(dst ? i->dst : i->src))[n] = row;
    ((uint8_t *)(uintptr_t)(dst ? i->dst_bits : i->src_bits))[n] = (uint8_t)bits;
}

bool decode_dst(struct decoder *d, const struct operand *o, int bits)
{
    if (o->kind == OPERAND_SINK) { /* a row that nobody reads */
        push(d, true, d->code->rows, bits);
        return true;
    }
    if (o->kind != OPERAND_REG || o->negated)
        return decode_wrong(d, "a register is wanted to write to");
    if (type_bits(o->type) != bits)
        return decode_wrong(d, "a register of another size than the instruction writes");
    push(d, true, o->slot, bits);
    return true;
}

static const struct {
    const char *name;
    int which;
} specials[] = {
    {"%tid.x", 0},        {"%tid.y", 1},        {"%tid.z", 2},        {"%ntid.x", 3},
    {"%ntid.y", 4},       {"%ntid.z", 5},       {"%ctaid.x", 6},      {"%ctaid.y", 7},
    {"%ctaid.z", 8},      {"%nctaid.x", 9},     {"%nctaid.y", 10},    {"%nctaid.z", 11},
    {"%laneid", 12},      {"%warpid", 13},      {"%lanemask_eq", 14}, {"%lanemask_lt", 15},
    {"%lanemask_le", 16}, {"%lanemask_gt", 17}, {"%lanemask_ge", 18}, {"%dynamic_smem_size", 19}};

static bool special_src(struct decoder *d, const char *name, int bits)
{
    size_t i = 0, n = sizeof specials / sizeof *specials;
    while (i < n && strcmp(specials[i].name, name) != 0)
        i++;
    if (i == n || bits != 32)
        return decode_wrong(d, "a special register that this machine does not know");
    int k = 0;
    while (k < d->specials && d->special[k].which != specials[i].which)
        k++;
    if (k == d->specials) {
        if (k == (int)(sizeof d->special / sizeof *d->special))
            return decode_wrong(d, "too many special registers");
        d->special[d->specials++] =
            (struct special){d->code->rows + 2 + k, specials[i].which, false};
    }
    push(d, false, d->special[k].row, 32);
    return true;
}

static bool symbol_src(struct decoder *d, const char *name, int bits)
{
    const struct symbol *s = symbol_find(d->k->text.symbols, name);
    if (!s)
        s = symbol_find(d->m->symbols, name);
    if (!s || s->kind == SYMBOL_LABEL)
        return decode_wrong(d, "a name that nothing has");
    uint64_t value = s->value;
    if (s->kind == SYMBOL_SHARED && value == UINT64_MAX) { /* begins after the static variables */
        size_t align = d->m->dynamic_align;
        value = (SHARED_START + d->k->is.static_shared + align - 1) / align * align;
    }
    push(d, false, constant_row(d, value, bits), bits);
    return true;
}

static bool pred_src(struct decoder *d, const struct operand *o)
{
    if (o->kind == OPERAND_IMM) { /* one more predicate is always false */
        push(d, false, o->value ? ~d->code->preds : d->code->preds, 1);
        return true;
    }
    if (o->kind != OPERAND_REG || o->type != REG_PRED)
        return decode_wrong(d, "a predicate is wanted");
    push(d, false, o->negated ? ~o->slot : o->slot, 1);
    return true;
}

bool decode_src(struct decoder *d, const struct operand *o, int bits)
{
    if (bits == 1)
        return pred_src(d, o);
    if (o->kind == OPERAND_IMM) {
        push(d, false, constant_row(d, o->value, bits), bits);
        return true;
    }
    if (o->kind == OPERAND_SPECIAL)
        return special_src(d, o->name, bits);
    if (o->kind == OPERAND_SYMBOL)
        return symbol_src(d, o->name, bits);
    if (o->kind != OPERAND_REG || o->negated)
        return decode_wrong(d, "a register or a number is wanted");
    if (type_bits(o->type) != bits)
        return decode_wrong(d, "a register of another size than the instruction reads");
    push(d, false, o->slot, bits);
    return true;
}

bool decode_address(struct decoder *d, const struct operand *o)
{
    static const struct operand zero = {.kind = OPERAND_IMM};
    if (o->kind != OPERAND_ADDRESS)
        return decode_wrong(d, "an address in brackets is wanted");
    const struct operand *base = o->parts ? o->part : &zero;
    int bits = base->kind == OPERAND_REG ? type_bits(base->type) : 64;
    if (bits < 32)
        return decode_wrong(d, "an address has 32 or 64 bits");
    d->i->value = o->value;
    return decode_src(d, base, bits);
}

/* ---- instructions ---- */

/* "ld.global.nc" -> "ld", "global", "nc"; "::" stays inside of a part. */
static bool split(struct decoder *d)
{
    char *copy = arena_strdup(d->m->arena, d->s->op);
    d->parts = 0;
    for (char *at = copy; at;) {
        if (d->parts == (int)(sizeof d->part / sizeof *d->part))
            return decode_wrong(d, "an instruction of too many parts");
        d->part[d->parts++] = at;
        at = strchr(at, '.');
        if (at)
            *at++ = 0;
    }
    return true;
}

static bool decode_branch(struct decoder *d, bool *known)
{
    bool bra = strcmp(d->part[0], "bra") == 0;
    *known = bra || strcmp(d->part[0], "ret") == 0 || strcmp(d->part[0], "exit") == 0;
    if (!*known)
        return true;
    d->i->cls = PTX_BRANCH;
    d->i->flags = bra ? INS_BRANCH : INS_EXIT;
    if (!bra)
        return decode_operands(d, 0);
    const struct operand *to = d->s->operand;
    const struct symbol *s = d->s->operands == 1 && to->kind == OPERAND_SYMBOL
                                 ? symbol_find(d->k->text.symbols, to->name)
                                 : NULL;
    if (!s || s->kind != SYMBOL_LABEL)
        return decode_wrong(d, "a branch to no label");
    d->i->target = (int)s->value;
    return true;
}

static bool run_trap(struct warp *w, const struct ins *i, uint32_t lanes)
{
    (void)i;
    return fault(w, __builtin_ctz(lanes), "the kernel traps");
}

static bool decode_trap(struct decoder *d, bool *known)
{
    *known = strcmp(d->s->op, "trap") == 0;
    d->i->run = run_trap;
    return true;
}

static bool (*const families[])(struct decoder *d, bool *known) = {
    decode_branch, decode_alu,    decode_memory, decode_sync,
    decode_async,  decode_tensor, decode_trap};

static int operand_count(const struct statement *s)
{
    int n = 4; /* what a family may add */
    for (int i = 0; i < s->operands; i++)
        n += 2 + s->operand[i].parts;
    return n;
}

static bool decode_one(struct decoder *d)
{
    struct ins *i = d->i;
    int room = operand_count(d->s);
    int *rows = ARENA_ARRAY(d->m->arena, int, 2 * room);
    uint8_t *bits = ARENA_ARRAY(d->m->arena, uint8_t, 2 * room);
    *i = (struct ins){.guard = -1,
                      .from = d->s,
                      .dst = rows,
                      .src = rows + room,
                      .dst_bits = bits,
                      .src_bits = bits + room};
    if (d->s->guard) {
        i->guard = d->s->guard->slot;
        i->guard_not = d->s->guard->negated ? ALL_LANES : 0;
    }
    if (!split(d))
        return false;
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        bool known = false;
        if (!families[f](d, &known))
            return false;
        if (known)
            return true;
    }
    return decode_wrong(d, "an instruction that this machine does not know");
}

static void finish(struct decoder *d)
{
    struct ptx_code *c = d->code;
    struct special *s = ARENA_ARRAY(d->m->arena, struct special, d->specials + 1);
    memcpy(s, d->special, (size_t)d->specials * sizeof *s);
    c->special = s;
    c->specials = d->specials;
    c->rows += 2 + d->specials; /* the sink, of up to 64 bits */
    c->preds++;
    c->constant = d->constant;
    c->param_bytes = d->k->text.param_bytes;
    c->dynamic_align = d->m->dynamic_align;
    d->k->is.code = c;
}

bool decode_kernel(struct ptx_module *m, struct parsed_kernel *k, struct err *e)
{
    int n = k->text.statements;
    struct ptx_code *c = ARENA_NEW(m->arena, struct ptx_code);
    *c = (struct ptx_code){.file = m->file, .rows = k->text.rows, .preds = k->text.preds};
    c->rows += c->rows & 1;
    c->ins = ARENA_ARRAY(m->arena, struct ins, n + 1);
    struct decoder *d = ARENA_NEW(m->arena, struct decoder);
    *d = (struct decoder){.m = m, .k = k, .code = c, .e = e};
    d->constant_map = ARENA_ARRAY(m->arena, int, CONSTANT_BUCKETS);
    for (c->count = 0; c->count < n; c->count++) {
        d->s = &k->text.statement[c->count];
        d->i = &c->ins[c->count];
        if (!decode_one(d))
            return false;
    }
    c->ins[c->count++] = (struct ins){.guard = -1,
                                      .flags = INS_EXIT,
                                      .cls = PTX_BRANCH,
                                      .from = n ? &k->text.statement[n - 1] : NULL};
    finish(d);
    wgmma_find(m, c);
    return true;
}
