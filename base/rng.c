#include "base/rng.h"

#include <assert.h>
#include <math.h>

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t rotl(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

struct rng rng_stream(uint64_t seed, const char *name, uint64_t i, uint64_t j, uint64_t k)
{
    uint64_t state = seed;
    for (const char *c = name; *c; c++)
        state = splitmix(&state) ^ (unsigned char)*c;
    uint64_t index[] = {i, j, k};
    for (int n = 0; n < 3; n++)
        state = splitmix(&state) ^ index[n];
    struct rng r;
    for (int n = 0; n < 4; n++)
        r.s[n] = splitmix(&state);
    return r;
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

double rng_uniform(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

uint64_t rng_below(struct rng *r, uint64_t limit)
{
    assert(limit > 0);
    uint64_t skip =
        (0 - limit) % limit; /* 2^64 mod limit: values below it would favour small results */
    for (;;) {
        uint64_t x = rng_u64(r);
        if (x >= skip)
            return x % limit;
    }
}

double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_uniform(r), v = rng_uniform(r); /* Box-Muller; u > 0 */
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}
