/* Reads the text of a .ptx: directives, registers, labels, statements. What the statements mean is
 * decode.c's. */
#include "tests/ptx/code.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OPERANDS = 160, MOST_DECLARATIONS = 64, MOST_DEPTH = 16, MOST_REGISTERS = 1 << 20 };

struct declared { /* .reg .b32 %r<41>, or .reg .pred p */
    const char *name;
    size_t length;
    long count; /* -1: one register of exactly this name */
    enum reg_type type;
    int slot;
};

struct parser {
    struct ptx_module *m;
    const char *at, *end;
    int line;
    struct declared declared[MOST_DECLARATIONS];
    int declarations;
    int scope[MOST_DEPTH]; /* declarations before each open brace */
    int depth;
    struct parsed_kernel *k; /* being read */
    struct err *e;
};

static bool wrong(struct parser *p, const char *what, const char *at, size_t length)
{
    if (length > 100)
        length = 100;
    return err_set(p->e, ERR_INPUT, (struct err_at){p->m->file, p->line, 0}, "%s: '%.*s'", what,
                   (int)length, at);
}

static size_t rest_of_line(const struct parser *p)
{
    const char *nl = memchr(p->at, '\n', (size_t)(p->end - p->at));
    return (size_t)((nl ? nl : p->end) - p->at);
}

static bool wrong_here(struct parser *p, const char *what)
{
    return wrong(p, what, p->at, rest_of_line(p));
}

static bool starts(const struct parser *p, const char *what)
{
    size_t n = strlen(what);
    return (size_t)(p->end - p->at) >= n && memcmp(p->at, what, n) == 0;
}

/* Past white space and comments. The text ends with a NUL, so that *p->at may always be read. */
static void skip(struct parser *p)
{
    for (;;) {
        while (p->at < p->end && isspace((unsigned char)*p->at))
            p->line += *p->at++ == '\n';
        if (starts(p, "//")) {
            p->at += rest_of_line(p);
        } else if (starts(p, "/*")) {
            while (p->at < p->end && !starts(p, "*/"))
                p->line += *p->at++ == '\n';
            p->at += starts(p, "*/") ? 2 : 0;
        } else {
            return;
        }
    }
}

static bool taken(struct parser *p, char c)
{
    skip(p);
    if (p->at < p->end && *p->at == c) {
        p->at++;
        return true;
    }
    return false;
}

static bool want(struct parser *p, char c)
{
    char what[] = "expected ' ' here";
    what[10] = c;
    return taken(p, c) || wrong_here(p, what);
}

static bool in_name(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%';
}

static size_t name_length(const struct parser *p)
{
    size_t n = 0;
    while (p->at + n < p->end && in_name(p->at[n]))
        n++;
    return n;
}

/* A name, which is kept; NULL if there is none. */
static const char *take_name(struct parser *p)
{
    skip(p);
    size_t n = name_length(p);
    if (n == 0 || isdigit((unsigned char)*p->at)) {
        wrong_here(p, "expected a name");
        return NULL;
    }
    const char *name = arena_strndup(p->m->arena, p->at, n);
    p->at += n;
    return name;
}

/* ---- numbers ---- */

/* 0f3F800000 and 0d3FF0000000000000 are bits of a float and a double. */
static bool take_float_bits(struct parser *p, struct operand *o)
{
    int digits = p->at[1] == 'f' || p->at[1] == 'F' ? 8 : 16;
    p->at += 2;
    o->is_float = true;
    o->value = 0;
    for (int i = 0; i < digits; i++, p->at++) {
        if (p->at >= p->end || !isxdigit((unsigned char)*p->at))
            return wrong_here(p, "expected 8 (0f) or 16 (0d) hexadecimal digits");
        char c = (char)tolower((unsigned char)*p->at);
        o->value = o->value << 4 | (uint64_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return true;
}

static bool take_number(struct parser *p, struct operand *o)
{
    skip(p);
    *o = (struct operand){.kind = OPERAND_IMM};
    bool minus = *p->at == '-';
    p->at += minus;
    if (p->at[0] == '0' && p->at[1] && strchr("fFdD", p->at[1]) && !minus)
        return take_float_bits(p, o);
    if (!isdigit((unsigned char)*p->at))
        return wrong_here(p, "expected a number");
    char *stop;
    o->value = strtoull(p->at, &stop, 0);
    p->at = stop;
    p->at += *p->at == 'U';
    if (minus)
        o->value = 0 - o->value;
    return true;
}

static bool take_count(struct parser *p, uint64_t most, uint64_t *n)
{
    struct operand o;
    if (!take_number(p, &o))
        return false;
    if (o.value > most)
        return wrong_here(p, "a number that is too large, before");
    *n = o.value;
    return true;
}

/* ---- names ---- */

static unsigned bucket_of(const char *name)
{
    unsigned h = 5381;
    for (; *name; name++)
        h = h * 33 + (unsigned char)*name;
    return h % SYMBOL_BUCKETS;
}

const struct symbol *symbol_find(const struct symbols *s, const char *name)
{
    for (const struct symbol *i = s->bucket[bucket_of(name)]; i; i = i->next)
        if (strcmp(i->name, name) == 0)
            return i;
    return NULL;
}

static bool symbol_add(struct parser *p, struct symbols *s, const char *name, enum symbol_kind kind,
                       uint64_t value)
{
    if (symbol_find(s, name))
        return wrong(p, "a second definition of this name", name, strlen(name));
    struct symbol *n = ARENA_NEW(p->m->arena, struct symbol);
    unsigned b = bucket_of(name);
    *n = (struct symbol){s->bucket[b], name, kind, value};
    s->bucket[b] = n;
    return true;
}

/* Whether the name of `length` characters is d's; which of its registers. */
static bool is_declared(const struct declared *d, const char *name, size_t length, long *which)
{
    *which = 0;
    if (d->count < 0)
        return length == d->length && memcmp(name, d->name, length) == 0;
    if (length <= d->length || length > d->length + 9 || memcmp(name, d->name, d->length) != 0)
        return false;
    for (size_t i = d->length; i < length; i++) {
        if (!isdigit((unsigned char)name[i]))
            return false;
        *which = *which * 10 + (name[i] - '0');
    }
    return *which < d->count;
}

static bool find_register(const struct parser *p, const char *name, size_t length,
                          struct operand *o)
{
    for (int i = p->declarations - 1; i >= 0; i--) {
        const struct declared *d = &p->declared[i];
        long which;
        if (is_declared(d, name, length, &which)) {
            o->kind = OPERAND_REG;
            o->type = d->type;
            o->slot = d->slot + (int)which * (d->type == REG_64 ? 2 : 1);
            return true;
        }
    }
    return false;
}

/* ---- declarations ---- */

static const struct {
    const char *name;
    enum reg_type type;
    unsigned bytes;
} types[] = {{".pred", REG_PRED, 0}, {".b8", REG_16, 1},  {".u8", REG_16, 1},  {".s8", REG_16, 1},
             {".b16", REG_16, 2},    {".u16", REG_16, 2}, {".s16", REG_16, 2}, {".f16", REG_16, 2},
             {".b32", REG_32, 4},    {".u32", REG_32, 4}, {".s32", REG_32, 4}, {".f32", REG_32, 4},
             {".b64", REG_64, 8},    {".u64", REG_64, 8}, {".s64", REG_64, 8}, {".f64", REG_64, 8}};

/* ".b32" and the like: an index of types[], or -1. */
static int take_type(struct parser *p)
{
    skip(p);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (starts(p, types[i].name) && !in_name(p->at[strlen(types[i].name)])) {
            p->at += strlen(types[i].name);
            return (int)i;
        }
    wrong_here(p, "expected a type such as .b32");
    return -1;
}

static bool take_register(struct parser *p, enum reg_type type)
{
    struct text_code *t = &p->k->text;
    const char *name = take_name(p);
    uint64_t count = 1;
    bool many = name && taken(p, '<');
    if (!name || (many && (!take_count(p, MOST_REGISTERS, &count) || !want(p, '>'))))
        return false;
    if (p->declarations == MOST_DECLARATIONS || t->rows + 2 * (int64_t)count > MOST_REGISTERS)
        return wrong_here(p, "more registers than this machine has, before");
    struct declared *d = &p->declared[p->declarations++];
    *d = (struct declared){name, strlen(name), many ? (long)count : -1, type, t->rows};
    if (type == REG_PRED) {
        d->slot = t->preds;
        t->preds += (int)count;
    } else {
        t->rows += (int)count * (type == REG_64 ? 2 : 1);
    }
    return true;
}

/* .reg .b32 %r<41>, x; */
static bool take_registers(struct parser *p)
{
    int type = take_type(p);
    if (type < 0)
        return false;
    do {
        if (!take_register(p, types[type].type))
            return false;
    } while (taken(p, ','));
    return want(p, ';');
}

static size_t up(size_t n, size_t align)
{
    return (n + align - 1) / align * align;
}

struct variable {
    const char *name;
    size_t bytes, align;
    bool open; /* name[] */
};

/* [.align 8] .b8 name[24], after .param, .shared or .local. */
static bool take_variable(struct parser *p, struct variable *v)
{
    uint64_t n = 0;
    skip(p);
    if (starts(p, ".align")) {
        p->at += strlen(".align");
        if (!take_count(p, 1 << 16, &n))
            return false;
        if (n == 0 || (n & (n - 1)))
            return wrong_here(p, "an alignment that is no power of two, before");
    }
    int type = take_type(p);
    if (type < 0)
        return false;
    v->bytes = types[type].bytes;
    v->align = n ? n : v->bytes;
    v->open = false;
    skip(p);
    if (starts(p, ".ptr")) /* what a pointer points to */
        while (p->at < p->end && !isspace((unsigned char)*p->at))
            p->at++;
    v->name = take_name(p);
    if (!v->name || v->bytes == 0)
        return v->name && wrong_here(p, "a variable of a type without size, before");
    if (!taken(p, '['))
        return true;
    v->open = taken(p, ']');
    if (v->open)
        return true;
    if (!take_count(p, 1 << 20, &n) || !want(p, ']'))
        return false;
    v->bytes *= n;
    return true;
}

static bool take_shared(struct parser *p)
{
    struct variable v;
    if (!take_variable(p, &v) || !want(p, ';'))
        return false;
    if (v.open) { /* where it begins depends on the kernel's static shared memory */
        if (v.align > p->m->dynamic_align)
            p->m->dynamic_align = v.align;
        return symbol_add(p, p->m->symbols, v.name, SYMBOL_SHARED, UINT64_MAX);
    }
    size_t *end = p->k ? &p->k->is.static_shared : &p->m->shared_end;
    size_t start = up(SHARED_START + *end, v.align);
    *end = start + v.bytes - SHARED_START;
    return symbol_add(p, p->k ? p->k->text.symbols : p->m->symbols, v.name, SYMBOL_SHARED, start);
}

static bool take_local(struct parser *p)
{
    struct variable v;
    if (!take_variable(p, &v) || !want(p, ';'))
        return false;
    size_t start = up(p->k->is.local_bytes, v.align);
    p->k->is.local_bytes = start + v.bytes;
    return symbol_add(p, p->k->text.symbols, v.name, SYMBOL_LOCAL, start);
}

/* ---- operands ---- */

static bool take_operand(struct parser *p, struct operand *o, int depth);

/* Operands up to `close`, kept. */
static bool take_list(struct parser *p, char close, const struct operand **list, int *count,
                      int depth)
{
    struct operand some[MOST_OPERANDS];
    int n = 0;
    if (!taken(p, close)) {
        do {
            if (n == MOST_OPERANDS)
                return wrong_here(p, "too many operands, before");
            if (!take_operand(p, &some[n++], depth))
                return false;
        } while (taken(p, ','));
        if (!want(p, close))
            return false;
    }
    struct operand *kept = ARENA_ARRAY(p->m->arena, struct operand, n ? n : 1);
    memcpy(kept, some, (size_t)n * sizeof *some);
    *list = kept;
    *count = n;
    return true;
}

static bool take_address(struct parser *p, struct operand *o)
{
    struct operand *base = ARENA_NEW(p->m->arena, struct operand), offset = {.value = 0};
    *o = (struct operand){.kind = OPERAND_ADDRESS, .part = base, .parts = 1};
    if (!take_operand(p, base, 1))
        return false;
    if (base->kind == OPERAND_IMM) {
        o->value = base->value;
        o->parts = 0;
    } else if (base->kind != OPERAND_REG && base->kind != OPERAND_SYMBOL) {
        return wrong_here(p, "no base of an address, before");
    }
    if (taken(p, '+') && !take_number(p, &offset))
        return false;
    o->value += offset.value;
    return want(p, ']');
}

/* A register, a special register (with its .x) or a symbol. */
static bool take_named(struct parser *p, struct operand *o)
{
    size_t n = name_length(p);
    *o = (struct operand){.kind = OPERAND_SYMBOL};
    if (n == 1 && *p->at == '_') {
        o->kind = OPERAND_SINK;
        p->at++;
        return true;
    }
    if (find_register(p, p->at, n, o)) {
        p->at += n;
        return true;
    }
    if (*p->at == '%') {
        o->kind = OPERAND_SPECIAL;
        if (p->at[n] == '.')
            n += 1 + (in_name(p->at[n + 1]) ? 1 : 0);
    }
    o->name = arena_strndup(p->m->arena, p->at, n);
    p->at += n;
    return true;
}

static bool take_operand(struct parser *p, struct operand *o, int depth)
{
    bool negated = taken(p, '!');
    skip(p);
    if (depth < 2 && taken(p, '{')) {
        *o = (struct operand){.kind = OPERAND_VECTOR};
        return take_list(p, '}', &o->part, &o->parts, depth + 1);
    }
    if (depth < 1 && taken(p, '['))
        return take_address(p, o);
    if (isdigit((unsigned char)*p->at) || *p->at == '-')
        return take_number(p, o);
    if (!in_name(*p->at))
        return wrong_here(p, "expected an operand");
    if (!take_named(p, o))
        return false;
    o->negated = negated;
    if (depth == 0 && taken(p, '|')) {
        struct operand *second = ARENA_NEW(p->m->arena, struct operand);
        o->second = second;
        return take_operand(p, second, 2);
    }
    return true;
}

/* ---- statements ---- */

static struct statement *statement_new(struct parser *p)
{
    struct text_code *t = &p->k->text;
    if (t->statements == t->room) {
        int room = t->room ? 2 * t->room : 256;
        struct statement *more = ARENA_ARRAY(p->m->arena, struct statement, room);
        if (t->statements)
            memcpy(more, t->statement, (size_t)t->statements * sizeof *more);
        t->statement = more;
        t->room = room;
    }
    return &t->statement[t->statements++];
}

static bool take_guard(struct parser *p, struct statement *s)
{
    if (!taken(p, '@'))
        return true;
    struct operand *guard = ARENA_NEW(p->m->arena, struct operand);
    if (!take_operand(p, guard, 2))
        return false;
    if (guard->kind != OPERAND_REG || guard->type != REG_PRED)
        return wrong_here(p, "a guard that is no predicate, before");
    s->guard = guard;
    return true;
}

static bool take_statement(struct parser *p)
{
    struct statement *s = statement_new(p);
    *s = (struct statement){.line = p->line, .text = p->at};
    if (!take_guard(p, s))
        return false;
    skip(p);
    size_t n = 0;
    while (p->at + n < p->end && (isalnum((unsigned char)p->at[n]) || strchr("_.:", p->at[n])))
        n++;
    if (n == 0)
        return wrong_here(p, "expected an instruction");
    s->op = arena_strndup(p->m->arena, p->at, n);
    p->at += n;
    if (!take_list(p, ';', &s->operand, &s->operands, 0))
        return false;
    s->length = (int)(p->at - s->text);
    s->text = arena_strndup(p->m->arena, s->text, (size_t)s->length);
    return true;
}

/* name: (but not the :: of a modifier) */
static bool at_label(const struct parser *p)
{
    size_t n = name_length(p);
    return n > 0 && p->at + n + 1 < p->end && p->at[n] == ':' && p->at[n + 1] != ':';
}

static bool take_label(struct parser *p)
{
    const char *name = take_name(p);
    p->at++;
    return name &&
           symbol_add(p, p->k->text.symbols, name, SYMBOL_LABEL, (uint64_t)p->k->text.statements);
}

static bool take_brace(struct parser *p)
{
    if (p->depth == MOST_DEPTH)
        return wrong_here(p, "braces nested too deep");
    p->scope[p->depth++] = p->declarations;
    p->at++;
    return true;
}

static bool skip_line(struct parser *p)
{
    p->at += rest_of_line(p);
    return true;
}

static const struct {
    const char *name;
    bool (*take)(struct parser *p);
} inner[] = {{".reg", take_registers},
             {".shared", take_shared},
             {".local", take_local},
             {".pragma", skip_line},
             {".loc", skip_line}};

static bool take_inner(struct parser *p)
{
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++)
        if (starts(p, inner[i].name) && !in_name(p->at[strlen(inner[i].name)])) {
            p->at += strlen(inner[i].name);
            return inner[i].take(p);
        }
    return wrong_here(p, "a directive that this machine does not know");
}

static bool take_body(struct parser *p)
{
    if (!want(p, '{'))
        return false;
    p->declarations = p->depth = 0;
    for (;;) {
        skip(p);
        if (p->at == p->end)
            return wrong_here(p, "the text ends inside a kernel");
        bool ok = true;
        if (*p->at == '}') {
            p->at++;
            if (p->depth == 0)
                return true;
            p->declarations = p->scope[--p->depth];
        } else if (*p->at == '{') {
            ok = take_brace(p);
        } else if (*p->at == '.') {
            ok = take_inner(p);
        } else if (at_label(p)) {
            ok = take_label(p);
        } else {
            ok = take_statement(p);
        }
        if (!ok)
            return false;
    }
}

/* ---- kernels ---- */

enum { MOST_PARAMS = 64 };

static bool take_params(struct parser *p)
{
    size_t offset[MOST_PARAMS], bytes[MOST_PARAMS], end = 0;
    int n = 0;
    while (!taken(p, ')')) {
        struct variable v;
        skip(p);
        if (!starts(p, ".param") || n == MOST_PARAMS)
            return wrong_here(p, "expected .param (64 at most)");
        p->at += strlen(".param");
        if (!take_variable(p, &v))
            return false;
        offset[n] = up(end, v.align);
        bytes[n] = v.bytes;
        end = offset[n] + v.bytes;
        if (!symbol_add(p, p->k->text.symbols, v.name, SYMBOL_PARAM, offset[n++]))
            return false;
        taken(p, ',');
    }
    size_t *kept = ARENA_ARRAY(p->m->arena, size_t, 2 * n + 1);
    memcpy(kept, offset, (size_t)n * sizeof *kept);
    memcpy(kept + n, bytes, (size_t)n * sizeof *kept);
    p->k->is.params = n;
    p->k->is.param_offset = kept;
    p->k->is.param_bytes = kept + n;
    p->k->text.param_bytes = end;
    return true;
}

static bool take_dimensions(struct parser *p, unsigned *product)
{
    uint64_t n = 0, all = 1;
    do {
        if (!take_count(p, 1024, &n))
            return false;
        all *= n;
    } while (taken(p, ','));
    *product = (unsigned)(all < 1024 ? all : 1024);
    return true;
}

/* .maxntid 256, 1, 1 and the like, before the body. */
static bool take_bounds(struct parser *p)
{
    struct {
        const char *name;
        unsigned *to;
    } bounds[] = {{".maxntid", &p->k->is.max_threads},
                  {".reqntid", &p->k->is.max_threads},
                  {".minnctapersm", &p->k->is.min_blocks},
                  {".maxnreg", &p->k->is.max_registers}};
    for (skip(p); p->at < p->end && *p->at == '.'; skip(p)) {
        size_t i = 0;
        while (i < 4 && !starts(p, bounds[i].name))
            i++;
        if (i == 4)
            return wrong_here(p, "a directive that this machine does not know");
        p->at += strlen(bounds[i].name);
        if (!take_dimensions(p, bounds[i].to))
            return false;
    }
    return true;
}

static struct parsed_kernel *kernel_new(struct ptx_module *m)
{
    if (m->kernels == m->room) {
        int room = m->room ? 2 * m->room : 16;
        struct parsed_kernel *more = ARENA_ARRAY(m->arena, struct parsed_kernel, room);
        if (m->kernels)
            memcpy(more, m->kernel, (size_t)m->kernels * sizeof *more);
        m->kernel = more;
        m->room = room;
    }
    return &m->kernel[m->kernels++];
}

static bool take_entry(struct parser *p)
{
    p->k = kernel_new(p->m);
    p->k->text.symbols = ARENA_NEW(p->m->arena, struct symbols);
    p->k->is.static_shared = p->m->shared_end;
    p->k->is.name = take_name(p);
    if (!p->k->is.name)
        return false;
    if (taken(p, '(') && !take_params(p))
        return false;
    bool ok = take_bounds(p) && take_body(p);
    p->k->text.dynamic_align = p->m->dynamic_align;
    p->k = NULL;
    return ok;
}

static bool take_nothing(struct parser *p)
{
    (void)p;
    return true;
}

static const struct {
    const char *name;
    bool (*take)(struct parser *p);
} outer[] = {{".version", skip_line},    {".target", skip_line},    {".address_size", skip_line},
             {".visible", take_nothing}, {".extern", take_nothing}, {".weak", take_nothing},
             {".shared", take_shared},   {".entry", take_entry},    {".file", skip_line}};

static bool take_outer(struct parser *p)
{
    for (size_t i = 0; i < sizeof outer / sizeof *outer; i++)
        if (starts(p, outer[i].name) && !in_name(p->at[strlen(outer[i].name)])) {
            p->at += strlen(outer[i].name);
            return outer[i].take(p);
        }
    return wrong_here(p, "a directive that this machine does not know");
}

bool parse_module(struct ptx_module *m, const char *text, size_t bytes, struct err *e)
{
    char *copy = malloc(bytes + 1);
    if (!copy)
        return err_set(e, ERR_SYSTEM, err_at_name(m->file), "no memory for %zu bytes", bytes);
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    struct parser *p = ARENA_NEW(m->arena, struct parser);
    *p = (struct parser){.m = m, .at = copy, .end = copy + bytes, .line = 1, .e = e};
    m->symbols = ARENA_NEW(m->arena, struct symbols);
    m->dynamic_align = 16;
    bool ok = true;
    for (skip(p); ok && p->at < p->end; skip(p))
        ok = take_outer(p);
    free(copy);
    return ok;
}
