/* One tile of attention on one core: up to TILE_QUERIES queries of one head against one list of
 * keys. tile.c is compiled once for each instruction set, and each compilation defines one `struct
 * tile_isa`.
 *
 * Lanes are queries. With S^T = K Q^T, P^T = 2^(S^T - m) and O^T = V^T P^T every softmax step is
 * elementwise over vectors, K and V are used in the row order in which they are gathered (no
 * transposes), and a short last block of keys costs nothing. Queries come in panels of isa.panel
 * lanes. */
#ifndef KERNELS_CPU_TILE_H
#define KERNELS_CPU_TILE_H

#include "kernels/kern.h"

enum {
    TILE_QUERIES = 128,
    TILE_KEYS = 128, /* keys per block: K, V and P of a block stay in a 1 MB level-2 cache */
    TILE_PANEL_MAX = 32
};

/* Floats of scratch that one thread needs; 64-byte aligned. */
size_t tile_scratch(int dim, bool backward);
size_t tile_linear_scratch(int in);

/* Up to isa.panel rows of a linear layer: y = x w^T. */
struct tile_linear {
    const uint16_t *x, *w; /* [rows][in], [out][in] */
    uint16_t *y;           /* [rows][out] */
    int rows, in, out;
    float *scratch;
};

struct tile {
    const struct kern_head *head;
    int64_t q_begin, q_count; /* rows; q_count <= TILE_QUERIES */
    const int32_t *list;      /* NULL: all keys from key_begin */
    int64_t key_begin, key_count;
    int dim;
    float scale;
    float *scratch;
    float *dk, *dv; /* backward: where this tile's gradients are added, [kv_rows][dim] */
};

struct tile_isa {
    const char *name; /* "avx512" */
    int panel;
    bool (*available)(void);
    void (*forward)(const struct tile *t);
    void (*backward)(const struct tile *t);
    void (*linear)(const struct tile_linear *t);
    /* scores[g * stride + j] = <q_lr[g], k_lr[key]> for `groups` <= 4 and keys 0..count-1; kt is
     * [ceil(count/panel)] panels of [rank][panel] floats. Every isa sums in the same order with
     * fused or separate rounding as it has. */
    void (*scores)(const float *q, int groups, int rank, const float *kt, int64_t count,
                   float *scores, int64_t stride);
    /* How many of x[0..n) are >= hi; those in [lo, hi) are copied to `inside` (at most `room`;
     * returns the number that there were in *inside_count). */
    int64_t (*bracket)(const float *x, int64_t n, float lo, float hi, float *inside, int64_t room,
                       int64_t *inside_count);
    /* bits of x > threshold into words, n values; *equal counts those that equal it and were not
     * set. */
    void (*above)(const float *x, int64_t n, float threshold, uint32_t *words, int64_t *set,
                  int64_t *equal);
};

/* When an instruction set is used. VDPBF16PS runs at twice the FMA rate on AMD's Zen 4 (measured)
 * and at half of it on Intel's server cores without AMX, where the fp32 tiles are the faster ones.
 */
#define KERN_CPU_HAS_ANY  1
#define KERN_CPU_HAS_AVX2 (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#define KERN_CPU_HAS_AVX512                                                                        \
    (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&                    \
     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
#define KERN_CPU_HAS_AVX512BF16                                                                    \
    (KERN_CPU_HAS_AVX512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd"))

extern const struct tile_isa tile_avx512bf16, tile_avx512, tile_avx2, tile_plain;

#endif
