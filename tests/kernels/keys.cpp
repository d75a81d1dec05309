/* The keys of united groups (kernels/cuda/attention.cuh) against brute force, on the emulated GPU.
 */
#include "kernels/cuda/attention.cuh"

#include <stdlib.h>

#include <vector>

#include "tests/check.h"

struct stream_args {
    struct key_source from;
    int group;
    int32_t *list; /* out: room for every key and one tile */
    int *count;    /* out: the sum of what keys_next says */
};

/* One warp lists the keys of the groups that are united with `group`. */
template <int N> __global__ void list_united(stream_args p)
{
    int lane = (int)threadIdx.x, n = 0, got;
    int32_t *tile = (int32_t *)dev_shared();
    struct key_stream<N, UNITED> stream;
    keys_open(&stream, &p.from, p.group, lane);
    do {
        got = keys_next(&stream, tile, lane);
        __syncwarp();
        for (int i = lane; i < N; i += 32)
            p.list[n + i] = tile[i];
        __syncwarp();
        n += got;
    } while (got == N);
    if (lane == 0)
        *p.count = n;
}

/* `groups` bitmaps of `keys` keys, of which each has one in `one_in`; all bits behind them are set.
 */
static std::vector<uint32_t> draw(int groups, int keys, unsigned one_in)
{
    int words = (int)kern_words(keys);
    std::vector<uint32_t> bitmap((size_t)(groups * words), 0);
    unsigned seed = 1;
    for (int i = 0; i < groups * words * 32; i++) {
        seed = seed * 1664525u + 1013904223u;
        if (i % (words * 32) >= keys || (seed >> 16) % one_in == 0)
            bitmap[(size_t)i / 32] |= 1u << i % 32;
    }
    return bitmap;
}

/* Key by key: key | tag << UNITED_SHIFT. */
static std::vector<int32_t> expected(const struct key_source *from, int group)
{
    std::vector<int32_t> list;
    for (int key = 0; key < from->kv_rows; key++) {
        uint32_t tag = 0;
        for (int i = 0; i < from->united && group + i < from->groups; i++)
            tag |= (from->bitmap[(group + i) * from->stride + key / 32] >> key % 32 & 1) << i;
        if (tag)
            list.push_back((int32_t)((uint32_t)key | tag << UNITED_SHIFT));
    }
    return list;
}

/* The united groups from `group` on of `groups`. */
template <int N>
static void expect_lists(int united, int groups, int group, int keys, unsigned one_in)
{
    std::vector<uint32_t> bitmap = draw(groups, keys, one_in);
    struct key_source from = {};
    from.bitmap = bitmap.data(), from.stride = kern_words(keys), from.kv_rows = keys;
    from.groups = groups, from.united = united;
    std::vector<int32_t> want = expected(&from, group), list((size_t)keys + N, 0);
    int count = -1;
    stream_args p = {from, group, list.data(), &count};
    gsl_test_int(dev_launch(list_united<N>, 1, 32, N * 4, cudaStreamPerThread, p), 0, "starts");
    size_t whole = (want.size() / N + 1) * N;
    gsl_test_int(count, (int)want.size(), "as many as there are");
    want.resize(whole, UNITED_NONE);
    list.resize(whole);
    gsl_test(list != want,
             "%d groups from %d of %d, %d keys, one in %u: %zu entries in tiles of %d", united,
             group, groups, keys, one_in, want.size(), N);
}

int main(void)
{
    expect_lists<64>(2, 4, 2, 3200, 12);
    expect_lists<64>(4, 8, 4, 1056, 12);
    expect_lists<128>(4, 7, 4, 2040, 1); /* short, and every key */
    expect_lists<32>(4, 5, 4, 1000, 200);
    expect_lists<128>(4, 4, 0, 31, 4);
    expect_lists<64>(2, 2, 0, 1, 1);
    expect_lists<64>(2, 3, 0, 9000, 2000); /* whole steps of 1,024 bits without one */
    return gsl_test_summary();
}
