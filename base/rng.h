/* Random numbers that are the same on every machine and thread count: each use draws from a stream
 * of its own, named by what it is for and by up to three indices (block, head, step), never from a
 * shared one. Generator: xoshiro256** (Blackman, Vigna, "Scrambled linear pseudorandom number
 * generators", 2021), seeded by splitmix64 over the seed, the name and the indices. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t s[4];
};

struct rng rng_stream(uint64_t seed, const char *name, uint64_t i, uint64_t j, uint64_t k);

uint64_t rng_u64(struct rng *r);
double rng_uniform(struct rng *r);                 /* [0, 1), 53 bits */
uint64_t rng_below(struct rng *r, uint64_t limit); /* 0 .. limit-1 without bias; limit > 0 */
double rng_normal(struct rng *r);                  /* mean 0, variance 1 */

#endif
