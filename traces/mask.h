/* Which KV blocks each query group of one head keeps: a bitmap, one row a group, bit b of a row is
 * block b (word b / 64, bit b % 64). A row without bits is a group whose queries were pruned. */
#ifndef TRACES_MASK_H
#define TRACES_MASK_H

#include "traces/tiling.h"

struct mask {
    int groups, blocks;
    size_t words;   /* per row */
    uint64_t *bits; /* [groups][words]; bits past `blocks` are zero */
};

struct mask mask_new(int groups, int blocks, struct arena *a); /* all zero */
uint64_t *mask_row(const struct mask *m, int group);

bool bits_get(const uint64_t *row, int bit);
void bits_set(uint64_t *row, int bit);
void bits_fill(uint64_t *row, int first, int end); /* sets [first, end) */
void bits_or(uint64_t *to, const uint64_t *from, size_t words);

/* Tokens behind the bits of a row: full blocks by popcount, partial ones by class (at most 8
 * sizes). */
struct weigh {
    size_t words;
    int classes;
    int32_t tokens[8];
    const uint64_t *bits[8]; /* blocks of each size */
};

struct weigh weigh_make(const struct cubes *blocks, struct arena *a);
int64_t weigh_row(const struct weigh *w, const uint64_t *row);
int64_t weigh_and(const struct weigh *w, const uint64_t *row,
                  const uint64_t *other); /* tokens in both */

/* Little-endian bytes, bit b in byte b/8: how rows lie in files. bytes = ceil(blocks / 8).
 * mask_unpack refuses bits past the last block. */
void bits_pack(const uint64_t *row, int blocks, unsigned char *bytes);
bool bits_unpack(const unsigned char *bytes, int blocks, uint64_t *row);

#endif
