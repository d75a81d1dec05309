/* What the forward and the backward kernel share: the keys that a group of queries sees, as tiles
 * of N key rows in shared memory, whether they come from a list, a bitmap or are simply all.
 *
 * One warp makes the tiles, all others read them after a barrier. A stream looks one step ahead: a
 * call of keys_next stores what the call before has loaded, so that nobody waits for global memory
 * if a tile of work lies between two calls.
 *
 * United groups: m = 2 or 4 groups side by side run as one tile of queries over the union of their
 * keys, from bitmaps. An entry is then key | tag << UNITED_SHIFT, and bit i of the tag says that
 * the ith of them has the key, so that the logits of the others' rows can be masked. With u = keys
 * of the union / keys of a group, they multiply u times as much as each by itself, and fetch (and,
 * in the backward pass, write) u / m times as much. Weights are 0 where a group lacks a key, and 0
 * x infinity is no number: where V (backward: K, V, Q or dO) of what one group has is infinite or
 * NaN, the others get that too, as they would not by themselves. */
#ifndef KERNELS_CUDA_ATTENTION_CUH
#define KERNELS_CUDA_ATTENTION_CUH

#include "kernels/kern.h"

#include "kernels/cuda/prim.cuh"

enum { UNITED = 4, UNITED_SHIFT = 28, UNITED_NONE = (1 << UNITED_SHIFT) - 1 };

/* Part of a kernel's parameters, one per head; the fields are those of struct kern_keys. */
struct key_source {
    const int32_t *list, *count;
    const uint32_t *bitmap;
    int64_t stride; /* of the lists in entries or of the bitmaps in words */
    int32_t list_count, kv_rows;
    int32_t groups, united; /* in all, if not dense; in a tile: 1, or, of bitmaps only, 2 or 4 */
};

static inline struct key_source key_source_of(const struct kern_head *h)
{
    const struct kern_keys *k = &h->keys;
    struct key_source s;
    s.list = k->list;
    s.count = k->list ? k->count : NULL;
    s.bitmap = k->list ? NULL : k->bitmap;
    s.stride = k->list ? k->list_stride : k->bitmap_words;
    s.list_count = k->list_count;
    s.kv_rows = (int32_t)h->kv_rows;
    s.groups = k->list || k->bitmap ? (int32_t)kern_groups(h->q_rows, k->group) : 1;
    s.united = 1;
    return s;
}

/* How many groups of `group` queries to unite so that at most `rows` rows hold them: 1, 2 or 4, and
 * `most` at most. */
static inline int united_of(const struct key_source *k, int64_t group, int rows, int most)
{
    bool can = k->bitmap && k->groups > 1 && k->kv_rows < UNITED_NONE;
    while (most > 1 && !(can && most * group <= rows))
        most /= 2;
    return most;
}

/* Word `word` of a bitmap: of united groups, from number `group` on, what at least one has. Bits
 * behind the last key are 0. */
DEV uint32_t source_word(const struct key_source *k, int64_t group, int word)
{
    uint32_t bits = 0, keys = word == k->kv_rows / 32 ? ~(~0u << k->kv_rows % 32) : ~0u;
    for (int g = 0; g < min(k->united, (int)(k->groups - group)); g++)
        bits |= __ldg(k->bitmap + (group + g) * k->stride + word);
    return bits & keys;
}

/* The keys of one group in ascending order, or of up to U united ones, N (32, 64 or 128) at a time.
 * Every lane of the warp has one. Few fields, since they stay in registers all through a kernel. */
template <int N, int U = 1> struct key_stream {
    const struct key_source *from;
    int32_t group;     /* the first */
    int32_t next, end; /* list entries, or keys, or words of the bitmap: loaded, and in all */
    int32_t ahead[N / 32][U]; /* entries next - N + lane + 32 i, or words next + lane + 32 i */
    uint32_t bits;            /* a bitmap's word next - 32 + lane: what is left of it */
    uint32_t of[U];           /* united: the word itself, of each group */
};

/* What stands where there is no key, and the key of an entry: no row if there is none. */
template <int U> DEV int32_t entry_none(void)
{
    return U == 1 ? -1 : UNITED_NONE;
}

template <int U> DEV int32_t entry_key(int32_t entry)
{
    return U == 1 ? entry : entry & UNITED_NONE;
}

template <int U> DEV bool entry_there(int32_t entry)
{
    return U == 1 ? entry >= 0 : entry != UNITED_NONE;
}

/* Entries next + lane, ...: -1 beyond the end. */
template <int N, int U> DEV void keys_load_entries(struct key_stream<N, U> *s, int lane)
{
    const int32_t *list = s->from->list;
    list += list ? s->group * s->from->stride + s->next : 0;
#pragma unroll
    for (int i = 0; i < N / 32; i++) {
        int step = lane + 32 * i;
        bool over = step >= s->end - s->next;
        s->ahead[i][0] = over ? -1 : list ? __ldg(list + step) : s->next + step;
    }
    s->next += min(N, s->end - s->next);
}

/* Into ahead[i]; 0 beyond the end. */
template <int N, int U> DEV void keys_load_word(struct key_stream<N, U> *s, int i, int lane)
{
    int at = s->next + 32 * i + lane, odd = s->from->kv_rows % 32;
    uint32_t keys = at == s->end - 1 && odd ? ~(~0u << odd) : ~0u; /* bits that mean one */
    const uint32_t *words = s->from->bitmap + s->group * s->from->stride;
    int groups = U == 1 ? 1 : min(s->from->united, s->from->groups - s->group);
#pragma unroll
    for (int g = 0; g < U; g++) {
        s->ahead[i][g] = at < s->end && g < groups ? (int32_t)(__ldg(words + at) & keys) : 0;
        words += s->from->stride;
    }
}

template <int N, int U>
DEV void keys_open(struct key_stream<N, U> *s, const struct key_source *from, int64_t group,
                   int lane)
{
    s->from = from;
    s->group = (int32_t)group;
    s->next = 0;
    s->bits = 0;
    s->end = from->kv_rows;
    if (from->list) /* a count beyond the list is the caller's mistake, but must not lead astray */
        s->end = (int32_t)min(
            (int64_t)(from->count ? __ldg(from->count + group) : from->list_count), from->stride);
    if (U > 1 || from->bitmap) {
        s->end = (int32_t)(((int64_t)from->kv_rows + 31) / 32);
#pragma unroll
        for (int i = 0; i < N / 32; i++)
            keys_load_word(s, i, lane);
    } else {
        keys_load_entries(s, lane);
    }
}

/* The warp spreads the next 1,024 bits over its lanes, one word each. */
template <int N, int U> DEV void keys_refill(struct key_stream<N, U> *s, int lane)
{
    s->bits = 0;
#pragma unroll
    for (int g = 0; g < U; g++) {
        s->of[g] = (uint32_t)s->ahead[0][g];
        s->bits |= s->of[g];
#pragma unroll
        for (int i = 0; i + 1 < N / 32; i++)
            s->ahead[i][g] = s->ahead[i + 1][g];
    }
    s->next += 32;
    keys_load_word(s, N / 32 - 1, lane);
}

/* The entry of the lowest of the bits left, of a word that begins with `key`. */
template <int U> DEV int32_t keys_entry(int32_t key, uint32_t bits, const uint32_t (&of)[U])
{
    int32_t entry = key + __ffs((int)bits) - 1;
#pragma unroll
    for (int g = 0; g < U && U > 1; g++)
        if (of[g] & bits & (0u - bits))
            entry |= (int32_t)(1u << (UNITED_SHIFT + g));
    return entry;
}

template <int N, int U> DEV int keys_next_bits(struct key_stream<N, U> *s, int32_t *tile, int lane)
{
    int given = 0;
    for (;;) {
        int mine = __popc(s->bits), upto = mine; /* keys of the lanes up to this one */
#pragma unroll
        for (int d = 1; d < 32; d *= 2) {
            int below = __shfl_up_sync(~0u, upto, d);
            upto += lane >= d ? below : 0;
        }
        int at = given + upto - mine;
        given = min(N, given + __shfl_sync(~0u, upto, 31));
        for (; s->bits && at < N; at++, s->bits &= s->bits - 1)
            tile[at] = keys_entry((s->next - 32 + lane) * 32, s->bits, s->of);
        if (given == N || s->next >= s->end)
            break;
        keys_refill(s, lane);
    }
    for (int i = given + lane; i < N; i += 32)
        tile[i] = entry_none<U>();
    return given;
}

/* The whole warp: writes the next N entries to `tile` in shared memory, entry_none where there are
 * none left, and returns how many there are. Other warps may read the tile after a barrier. */
template <int N, int U> DEV int keys_next(struct key_stream<N, U> *s, int32_t *tile, int lane)
{
    if (U > 1 || s->from->bitmap)
        return keys_next_bits(s, tile, lane);
    int given = 0;
#pragma unroll
    for (int i = 0; i < N / 32; i++) {
        tile[lane + 32 * i] = s->ahead[i][0];
        given += __popc(__ballot_sync(~0u, s->ahead[i][0] >= 0));
    }
    keys_load_entries(s, lane);
    return given;
}

/* Rows of K and V named by entries keys[0 .. N), zeros for what names none, as wgmma wants
 * them (dev_matrix): halves of 64 columns, [N rows][128 bytes] each, K's and then V's. By 128
 * threads, of which 8 fetch 128 bytes of a row. */
template <int D, int N, int U = 1>
DEV void gather_halves(uint32_t to, const uint16_t *k, const uint16_t *v, int32_t kv_rows, int dim,
                       const int32_t *keys, int thread)
{
    enum { STEP = 128 / 8 };
    int chunk = thread % 8, first = thread / 8, row_bytes = dim * 2, key[N / STEP];
    to += (uint32_t)(first * 128 + ((chunk ^ (first & 7)) << 4));
#pragma unroll
    for (int i = 0; i < N / STEP; i++)
        key[i] = entry_key<U>(keys[first + i * STEP]);
#pragma unroll
    for (int i = 0; i < N / STEP; i++) {
        bool there = (uint32_t)key[i] < (uint32_t)kv_rows;
        const uint16_t *from_k = dev_row(k + chunk * 8, max(key[i], 0), row_bytes);
        const uint16_t *from_v = dev_row(v + chunk * 8, max(key[i], 0), row_bytes);
#pragma unroll
        for (int half = 0; half < D / 64; half++) {
            int bytes = there && half * 64 + chunk * 8 < dim ? 16 : 0;
            dev_copy16(to + (half * N + i * STEP) * 128, from_k + half * 64, bytes);
            dev_copy16(to + (half * N + i * STEP) * 128 + N * D * 2, from_v + half * 64, bytes);
        }
    }
}

#endif
