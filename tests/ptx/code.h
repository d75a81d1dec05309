/* What parse.c makes of the text of a .ptx: statements with their operands, names resolved to
 * registers and addresses. Inside tests/ptx only. */
#ifndef TESTS_PTX_CODE_H
#define TESTS_PTX_CODE_H

#include "base/arena.h"
#include "tests/ptx/ptx.h"

/* Registers live in rows of 32 lanes of 4 bytes; 64-bit ones take two rows. Predicates are
 * numbered apart. */
enum reg_type { REG_PRED, REG_16, REG_32, REG_64 };

enum operand_kind {
    OPERAND_REG,
    OPERAND_IMM,
    OPERAND_SPECIAL, /* %tid.x and the like: `name` */
    OPERAND_SYMBOL,  /* a label, or a variable without brackets: `name` */
    OPERAND_ADDRESS, /* [base + value]: base in part[0] if there is one */
    OPERAND_VECTOR,  /* part[0 .. parts) */
    OPERAND_SINK     /* _ */
};

struct operand {
    enum operand_kind kind;
    enum reg_type type; /* of a register */
    bool negated;       /* !p */
    bool is_float;      /* the immediate was 0f... or 0d... */
    int slot;           /* first row of a register, or number of a predicate */
    uint64_t value;     /* of an immediate, or the offset of an address */
    const char *name;
    const struct operand *part;
    int parts;
    const struct operand *second; /* of r|p: p */
};

struct statement {
    int line, length; /* characters of the text, which starts at `text` */
    const char *text;
    const char *op;              /* "ld.global.nc.v2.u32" */
    const struct operand *guard; /* @p or @!p; NULL: always */
    const struct operand *operand;
    int operands;
};

enum symbol_kind { SYMBOL_LABEL, SYMBOL_PARAM, SYMBOL_SHARED, SYMBOL_LOCAL };

struct symbol {
    struct symbol *next; /* in its bucket */
    const char *name;
    enum symbol_kind kind;
    uint64_t value; /* statement of a label; address in its window */
};

enum { SYMBOL_BUCKETS = 1024 };
struct symbols {
    struct symbol *bucket[SYMBOL_BUCKETS];
};

/* Shared memory begins here in its window: what lies below belongs to the system, as on sm_90. */
enum { SHARED_START = 1024 };

struct text_code { /* a kernel as read */
    struct statement *statement;
    int statements, room;
    int rows, preds;
    size_t param_bytes;
    size_t dynamic_align; /* of what the launch adds after static shared memory */
    struct symbols *symbols;
};

struct parsed_kernel {
    struct ptx_kernel is;
    struct text_code text;
};

struct ptx_module {
    struct arena *arena;
    const char *file;
    struct parsed_kernel *kernel;
    int kernels, room;
    struct symbols *symbols; /* of all kernels */
    size_t shared_end;       /* of static shared memory declared outside of kernels */
    size_t dynamic_align;
};

const struct symbol *symbol_find(const struct symbols *s, const char *name);

/* parse.c: fills *m but for the kernels' `code`. */
bool parse_module(struct ptx_module *m, const char *text, size_t bytes, struct err *e);

#endif
