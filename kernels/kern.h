/* Kernels of one attention block: dense and query-grouped sparse attention forward and backward,
 * selection of critical keys, union and remapping, movement of rows. A backend is one table of
 * functions; kern_backends lists all.
 *
 * Storage is bf16 (uint16_t: the upper half of an IEEE float), arithmetic and gradients are fp32.
 * Row-major [rows][dim], one matrix per head. "Memory of the backend" is host memory for "cpu" and
 * "reference", device memory for "cuda": every pointer inside a descriptor points there, the
 * descriptors themselves are in host memory and are read before the call returns. Nothing here is
 * allocated for the caller and nothing is kept between calls.
 *
 * Logits are s_ij = scale * <q_i, k_j>; LSE is in log2 units: lse_i = log2 sum_j 2^(s_ij / ln 2). A
 * query without keys has O = 0 and LSE = -infinity.
 *
 * Functions return false and fill *e on a shape they cannot do (ERR_INPUT), on memory they cannot
 * get (ERR_SYSTEM) or on a device error (ERR_DEVICE). Outputs are then undefined. Same input, same
 * bytes, at any number of threads, unless kern_backend.exact is false. */
#ifndef KERNELS_KERN_H
#define KERNELS_KERN_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { KERN_DIM_MAX = 256, KERN_DIM_STEP = 16, KERN_RANK_MAX = 64 };

/* Which keys the queries of a head see. Queries come in groups of `group` consecutive rows (the
 * last may be short) that share one selection. list and bitmap both NULL: every query sees every
 * key (dense). */
struct kern_keys {
    int64_t group;        /* queries per selection, >= 1 */
    const int32_t *list;  /* [groups][list_stride] strictly ascending key rows; entries beyond count
                             are not read */
    const int32_t *count; /* [groups] keys of each group; NULL: list_count for all */
    int32_t list_count;   /* K_h */
    int64_t list_stride;
    const uint32_t *bitmap; /* [groups][bitmap_words], bit j%32 of word j/32 is key j; used if list
                               is NULL. Bits behind the last key mean nothing, here and in unions */
    int64_t bitmap_words;   /* at least ceil(key rows / 32) */
};

/* One head, or a range of a head's queries. Heads that share K and V (grouped queries, split heads)
 * name the same k and v, and then the same dk and dv. */
struct kern_head {
    int64_t q_rows, kv_rows;
    const uint16_t *q;     /* [q_rows][dim] */
    const uint16_t *k, *v; /* [kv_rows][dim] */
    struct kern_keys keys;
    uint16_t *o; /* forward: out, [q_rows][dim]; may be NULL if o32 is set. backward: in */
    float *o32;  /* the same unrounded; may be NULL if o is set. backward: in, taken instead of o */
    float *lse;  /* [q_rows]; forward: out; backward: in */
    const uint16_t *d_o; /* backward only: [q_rows][dim] */
    float *dq;           /* [q_rows][dim], += */
    float *dk, *dv;      /* [kv_rows][dim], += */
};

struct kern_attention {
    int dim;     /* a multiple of KERN_DIM_STEP up to KERN_DIM_MAX */
    float scale; /* of logits, finite; 0 means 1/sqrt(dim) */
    int head_count;
    const struct kern_head *heads;
};

/* Critical keys of each query group of one head: the `keep` keys with the largest score <q_lr,
 * k_lr> (fp32), ties in ascending order of the key. A NaN score counts as -infinity. */
struct kern_select_head {
    int64_t groups, keys;
    int64_t keep;         /* 0..keys */
    const uint16_t *q_lr; /* [groups][rank] */
    const uint16_t *k_lr; /* [keys][rank] */
    uint32_t *bitmap;     /* [groups][bitmap_words], written whole; never NULL */
    int64_t bitmap_words;
    float
        *threshold; /* [groups] the smallest selected score (+infinity if keep is 0); may be NULL */
};

struct kern_select {
    int rank; /* r: width of q_lr and k_lr, 1..KERN_RANK_MAX */
    int head_count;
    const struct kern_select_head *heads;
};

/* The keys that at least one group needs, and lists in terms of them. */
struct kern_union {
    int64_t groups, keys, bitmap_words;
    const uint32_t *bitmap; /* [groups][bitmap_words] */
    uint32_t *all;          /* [bitmap_words] out: OR over the groups */
    int32_t *rows;          /* out: rows of `all`, ascending; room for `keys`; may be NULL */
    int64_t *row_count;     /* host memory, out */
};

/* lists[g] = for each key of group g, ascending: its position among the set bits of `all`; `all`
 * NULL means the key itself (a plain bitmap to list). Refused: a group key that is not in `all`,
 * more than list_stride keys. */
struct kern_remap {
    int64_t groups, bitmap_words;
    const uint32_t *bitmap, *all;
    int32_t *list;  /* out [groups][list_stride] */
    int32_t *count; /* out [groups] */
    int64_t list_stride;
    bool within; /* all = a range of keys: the list is the part of the group in that range, relative
                    to its start */
};

/* `rows` rows of `bytes` bytes from src + i * src_stride to dst + i * dst_stride; pack and unpack
 * are lists of these. Pieces do not overlap. */
struct kern_copy {
    const void *src;
    void *dst;
    int64_t rows, bytes, src_stride, dst_stride;
};

/* dst[i] = src[list[i]] and, for scatter, dst[list[i]] += src[i]; rows of `width` elements. */
struct kern_gather {
    const uint16_t *src;
    uint16_t *dst;
    const int32_t *list;
    int64_t count, width;
};
struct kern_scatter { /* within one call each dst row belongs to one entry only, and occurs once in
                         its list */
    const float *src;
    float *dst;
    const int32_t *list; /* NULL: row i */
    int64_t count, width;
};

/* Two partial results of the same queries over disjoint keys become one, in o and lse. */
struct kern_merge {
    int64_t rows;
    int dim;
    float *o, *lse;
    const float *other_o, *other_lse;
};

/* A linear layer: y = x w^T, rounded to bf16 from fp32 sums. */
struct kern_linear {
    int64_t rows;
    int in, out;       /* multiples of KERN_DIM_STEP */
    const uint16_t *x; /* [rows][in] */
    const uint16_t *w; /* [out][in] */
    uint16_t *y;       /* out, [rows][out] */
};

struct kern_backend {
    const char *name; /* "cpu" */
    const char *what; /* one line for people */
    bool exact;       /* same bytes each time */
    bool host;        /* its memory is the host's: a pointer may be used directly */
    bool (*available)(void);
    /* Memory of the backend, aligned to 256 bytes, not cleared. `release` accepts NULL. */
    bool (*allocate)(size_t bytes, void **p, struct err *e);
    void (*release)(void *p);
    bool (*put)(void *dst, const void *host, size_t bytes, struct err *e);
    bool (*get)(void *host, const void *src, size_t bytes, struct err *e);
    bool (*clear)(void *dst, size_t bytes, struct err *e);
    bool (*wait)(
        struct err *e); /* until all that was asked for is done; timers are read after it */
    bool (*forward)(const struct kern_attention *a, struct err *e);
    bool (*backward)(const struct kern_attention *a, struct err *e);
    bool (*select)(const struct kern_select *s, struct err *e);
    bool (*unite)(const struct kern_union *u, int count, struct err *e);
    bool (*remap)(const struct kern_remap *r, int count, struct err *e);
    bool (*copy)(const struct kern_copy *c, int count, struct err *e);
    bool (*gather)(const struct kern_gather *g, int count, struct err *e);
    bool (*scatter_add)(const struct kern_scatter *s, int count, struct err *e);
    bool (*merge)(const struct kern_merge *m, int count, struct err *e);
    bool (*to_bf16)(uint16_t *dst, const float *src, int64_t count, struct err *e);
    bool (*to_fp32)(float *dst, const uint16_t *src, int64_t count, struct err *e);
    bool (*linear)(const struct kern_linear *l, int count, struct err *e); /* NULL: it has none */
    /* Host memory that put and get are fastest with (page-locked); `host_release` accepts NULL.
     * Both NULL: any will do. */
    bool (*host_allocate)(size_t bytes, void **p, struct err *e);
    void (*host_release)(void *p);
};

/* All that this build has, best first; NULL-terminated. kern_backend_of: NULL and ERR_INPUT for an
 * unknown name or one that this machine cannot run; name NULL is the first that is available. */
extern const struct kern_backend *const kern_backends[];
const struct kern_backend *kern_backend_of(const char *name, struct err *e);

/* Shape checks that every backend makes first. */
bool kern_attention_check(const struct kern_attention *a, bool backward, struct err *e);
bool kern_select_check(const struct kern_select *s, struct err *e);
bool kern_linear_check(const struct kern_linear *l, int count, struct err *e);

/* Host-side check of lists: strictly ascending and within kv_rows; ERR_INPUT names head, group and
 * entry. Backends do not repeat it. */
bool kern_lists_check(const struct kern_attention *a, struct err *e);

static inline int64_t kern_groups(int64_t rows, int64_t group)
{
    return rows / group + (rows % group != 0); /* a group may be as large as it likes */
}

static inline int64_t kern_words(int64_t keys)
{
    return (keys + 31) / 32;
}

/* The bits of word w of a bitmap that are keys. */
static inline uint32_t kern_word_keys(int64_t keys, int64_t w)
{
    return keys - w * 32 >= 32 ? ~0u : ~(~0u << (keys - w * 32));
}

static inline float kern_float_of(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t kern_bf16_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (value != value)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline float kern_scale(const struct kern_attention *a)
{
    return a->scale != 0 ? a->scale : 1.0f / sqrtf((float)a->dim);
}

#ifdef __cplusplus
}
#endif
#endif
