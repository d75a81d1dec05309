#include "traces/mask.h"

#include <assert.h>
#include <string.h>

struct mask mask_new(int groups, int blocks, struct arena *a)
{
    struct mask m = {.groups = groups, .blocks = blocks, .words = ((size_t)blocks + 63) / 64};
    m.bits = ARENA_ARRAY(a, uint64_t, (size_t)groups * m.words);
    return m;
}

uint64_t *mask_row(const struct mask *m, int group)
{
    return m->bits + (size_t)group * m->words;
}

bool bits_get(const uint64_t *row, int bit)
{
    return row[bit / 64] >> (bit % 64) & 1;
}

void bits_set(uint64_t *row, int bit)
{
    row[bit / 64] |= (uint64_t)1 << (bit % 64);
}

void bits_fill(uint64_t *row, int first, int end)
{
    for (int at = first; at < end;) {
        int low = at % 64, high = end - at < 64 - low ? low + end - at : 64;
        uint64_t ones =
            high - low == 64 ? ~(uint64_t)0 : (((uint64_t)1 << (high - low)) - 1) << low;
        row[at / 64] |= ones;
        at += high - low;
    }
}

void bits_or(uint64_t *to, const uint64_t *from, size_t words)
{
    for (size_t i = 0; i < words; i++)
        to[i] |= from[i];
}

struct weigh weigh_make(const struct cubes *blocks, struct arena *a)
{
    struct weigh w = {.words = ((size_t)blocks->count + 63) / 64};
    uint64_t *bits[8];
    for (int b = 0; b < blocks->count; b++) {
        int c = 0;
        while (c < w.classes && w.tokens[c] != blocks->tokens[b])
            c++;
        if (c == w.classes) {
            assert(c < 8); /* each axis has a full and at most one partial size */
            w.tokens[w.classes++] = blocks->tokens[b];
            w.bits[c] = bits[c] = ARENA_ARRAY(a, uint64_t, w.words);
        }
        bits_set(bits[c], b);
    }
    return w;
}

int64_t weigh_row(const struct weigh *w, const uint64_t *row)
{
    int64_t tokens = 0;
    for (int c = 0; c < w->classes; c++) {
        int64_t count = 0;
        for (size_t i = 0; i < w->words; i++)
            count += __builtin_popcountll(row[i] & w->bits[c][i]);
        tokens += count * w->tokens[c];
    }
    return tokens;
}

int64_t weigh_and(const struct weigh *w, const uint64_t *row, const uint64_t *other)
{
    int64_t tokens = 0;
    for (int c = 0; c < w->classes; c++) {
        int64_t count = 0;
        for (size_t i = 0; i < w->words; i++)
            count += __builtin_popcountll(row[i] & other[i] & w->bits[c][i]);
        tokens += count * w->tokens[c];
    }
    return tokens;
}

void bits_pack(const uint64_t *row, int blocks, unsigned char *bytes)
{
    for (int i = 0; i < (blocks + 7) / 8; i++)
        bytes[i] = (unsigned char)(row[i / 8] >> (i % 8 * 8));
}

bool bits_unpack(const unsigned char *bytes, int blocks, uint64_t *row)
{
    memset(row, 0, ((size_t)blocks + 63) / 64 * 8);
    for (int i = 0; i < (blocks + 7) / 8; i++)
        row[i / 8] |= (uint64_t)bytes[i] << (i % 8 * 8);
    return blocks % 64 == 0 || row[blocks / 64] >> (blocks % 64) == 0;
}
