/* Expected values: a Python program written from the published definitions of splitmix64 and
 * xoshiro256**, and not from base/rng.c. Its generator gives the known first outputs for the state
 * 1, 2, 3, 4 (the first row below, which the reference implementation has too), and splitmix64(0) =
 * e220a8397b1dcdaf. */
#include "base/rng.h"

#include <math.h>

#include "tests/base/check.h"

static void the_generator_is_xoshiro256starstar(void)
{
    static const uint64_t want[] = {11520, 0, 1509978240, 1215971899390074240};
    struct rng r = {{1, 2, 3, 4}};
    for (int i = 0; i < 4; i++)
        gsl_test(rng_u64(&r) != want[i], "output %d of the state 1, 2, 3, 4", i);
}

static void streams_are_the_same_on_every_machine(void)
{
    static const struct {
        uint64_t seed;
        const char *name;
        uint64_t i, j, k, want[4];
    } rows[] = {
        {42,
         "trace.keep",
         3,
         7,
         11,
         {0x26e90a81ccc7d374, 0x9b402efef2dcba9a, 0x231aa25d58d58d6, 0x7b19d922168d7a3c}},
        {0,
         "",
         0,
         0,
         0,
         {0x8a21cd34a214a917, 0x9c507e12243e64d0, 0xc3763b828e49dc84, 0x103c72cbff1eb4b5}},
        {UINT64_MAX,
         "jitter",
         1,
         0,
         0,
         {0xd4216292d8bcb4be, 0x1a841639c522c2ad, 0x3e0ad998634798e, 0x1afdaaa69668eb07}},
    };
    for (size_t n = 0; n < sizeof rows / sizeof rows[0]; n++) {
        struct rng r = rng_stream(rows[n].seed, rows[n].name, rows[n].i, rows[n].j, rows[n].k);
        for (int i = 0; i < 4; i++)
            gsl_test(rng_u64(&r) != rows[n].want[i], "stream '%s', output %d", rows[n].name, i);
    }
}

static void every_part_of_a_name_makes_another_stream(void)
{
    struct rng r[] = {
        rng_stream(1, "a", 0, 0, 0),  rng_stream(2, "a", 0, 0, 0), rng_stream(1, "b", 0, 0, 0),
        rng_stream(1, "a", 1, 0, 0),  rng_stream(1, "a", 0, 1, 0), rng_stream(1, "a", 0, 0, 1),
        rng_stream(1, "aa", 0, 0, 0), rng_stream(1, "", 0, 0, 0),
    };
    enum { N = sizeof r / sizeof r[0] };
    uint64_t first[N];
    for (int i = 0; i < N; i++) {
        first[i] = rng_u64(&r[i]);
        for (int j = 0; j < i; j++)
            gsl_test(first[i] == first[j], "streams %d and %d", i, j);
    }
}

/* Bounds of five standard errors of the mean and variance of a uniform and a normal variable. */
static void draws_have_the_moments_they_should(void)
{
    enum { N = 200000 };
    struct rng r = rng_stream(7, "moments", 0, 0, 0);
    double sum = 0, square = 0, normal = 0, normal2 = 0, low = 1, high = 0;
    for (int i = 0; i < N; i++) {
        double u = rng_uniform(&r), g = rng_normal(&r);
        sum += u;
        square += u * u;
        normal += g;
        normal2 += g * g;
        low = fmin(low, u);
        high = fmax(high, u);
    }
    gsl_test(low < 0 || high >= 1, "uniform draws lie in [0, 1)");
    gsl_test_abs(sum / N, 0.5, 5 * sqrt(1.0 / 12 / N), "mean 1/2");
    gsl_test_abs(square / N, 1.0 / 3, 5 * sqrt(4.0 / 45 / N), "second moment 1/3");
    gsl_test_abs(normal / N, 0, 5 / sqrt(N), "mean 0");
    gsl_test_abs(normal2 / N, 1, 5 * sqrt(2.0 / N), "variance 1");
}

/* 2^64 mod 3 * 2^62 is 2^62: without the rejection the first third would come twice as often as the
 * others. */
static void a_limit_has_no_bias(void)
{
    enum { N = 30000 };
    const uint64_t third = (uint64_t)1 << 62;
    int count[3] = {0};
    struct rng r = rng_stream(7, "below", 0, 0, 0);
    for (int i = 0; i < N; i++)
        count[rng_below(&r, 3 * third) / third]++;
    for (int i = 0; i < 3; i++)
        gsl_test_abs(count[i], N / 3, 5 * sqrt(N * 2.0 / 9), "third %d of the range", i);
    gsl_test(rng_below(&r, 1) != 0, "only 0 is below 1");
}

int main(void)
{
    the_generator_is_xoshiro256starstar();
    streams_are_the_same_on_every_machine();
    every_part_of_a_name_makes_another_stream();
    draws_have_the_moments_they_should();
    a_limit_has_no_bias();
    return gsl_test_summary();
}
