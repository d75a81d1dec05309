/* Lists of super-groups against brute force over keys, on the emulated GPU. */
#include "kernels/cuda/bits.cuh"

#include <stdlib.h>

#include <vector>

#include "tests/check.h"

struct super_args {
    const uint32_t *bitmap;
    int64_t words;
    int groups;
    uint32_t *list;
    int *count;
};

/* One warp lists one super-group. */
template <int M> __global__ void list_super_group(super_args p)
{
    int lane = (int)threadIdx.x, n = 0;
    uint32_t *room = (uint32_t *)dev_shared();
    for (int64_t first = 0; first < p.words; first += 32) {
        int got = bits_super_step<M>(room, p.bitmap, p.words, p.groups, p.words, first, lane);
        for (int i = lane; i < got; i += 32)
            p.list[n + i] = room[i];
        __syncwarp();
        n += got;
    }
    if (lane == 0)
        *p.count = n;
}

template <int M> static void expect_lists(int groups, int64_t words, unsigned one_in)
{
    std::vector<uint32_t> bitmap((size_t)(groups * words), 0), list((size_t)words * 32, 0), want;
    unsigned seed = 1;
    for (int64_t i = 0; i < groups * words * 32; i++) {
        seed = seed * 1664525u + 1013904223u;
        if ((seed >> 16) % one_in == 0)
            bitmap[(size_t)(i / 32)] |= 1u << i % 32;
    }
    for (int64_t key = 0; key < words * 32; key++) {
        uint32_t tag = 0;
        for (int g = 0; g < groups; g++)
            tag |= (bitmap[(size_t)(g * words + key / 32)] >> key % 32 & 1) << g;
        if (tag)
            want.push_back((uint32_t)key | tag << BITS_TAG_SHIFT);
    }
    int count = -1;
    super_args p = {bitmap.data(), words, groups, list.data(), &count};
    gsl_test_int(dev_launch(list_super_group<M>, 1, 32, BITS_KEYS * 4, cudaStreamPerThread, p), 0,
                 "starts");
    list.resize(count < 0 ? 0 : (size_t)count);
    gsl_test(list != want, "%d of %d groups of %lld words, a key in %u: %d entries, want %zu",
             groups, M, (long long)words, one_in, count, want.size());
}

int main(void)
{
    expect_lists<2>(2, 100, 12);
    expect_lists<4>(4, 33, 12);
    expect_lists<4>(3, 64, 1); /* short, and every key */
    expect_lists<4>(1, 31, 200);
    expect_lists<3>(3, 1, 4);
    return gsl_test_summary();
}
