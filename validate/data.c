#include "validate/data.h"

#include <math.h>

#include "base/rng.h"
#include "kernels/kern.h"

/* Four 16-bit numbers from each draw; uniform on (-sqrt 3, sqrt 3) has variance 1. */
static void uniform_row(struct rng r, int width, float *out)
{
    uint64_t bits = 0;
    for (int d = 0; d < width; d++) {
        bits = d % 4 == 0 ? rng_u64(&r) : bits >> 16;
        out[d] = ((float)(bits & 0xffff) - 32767.5f) * (1.7320508f / 32768);
    }
}

void data_row(uint64_t seed, enum data_tensor tensor, int block, int head, int64_t token, int width,
              uint16_t *out)
{
    static const char *const names[DATA_TENSORS] = {"q", "k", "v", "do"};
    float x[KERN_DIM_MAX];
    uniform_row(rng_stream(seed, names[tensor], (uint64_t)block, (uint64_t)head, (uint64_t)token),
                width, x);
    for (int d = 0; d < width; d++)
        out[d] = kern_bf16_of(x[d]);
}

void data_low_rank(uint64_t seed, int block, int head, int64_t token, int64_t tokens, int rank,
                   int of_query, uint16_t *out)
{
    float noise[KERN_RANK_MAX];
    const char *name = of_query ? "q_lr" : "k_lr";
    uniform_row(rng_stream(seed, name, (uint64_t)block, (uint64_t)head, (uint64_t)token), rank,
                noise);
    struct rng waves = rng_stream(seed, "waves", (uint64_t)block, (uint64_t)head, 0);
    for (int d = 0; d < rank; d += 2) {
        double turns = 1 + 24 * rng_uniform(&waves);
        double angle = 6.283185307179586 * turns * (double)token / (double)tokens;
        out[d] = kern_bf16_of((float)cos(angle) + 0.5f * noise[d]);
        if (d + 1 < rank)
            out[d + 1] = kern_bf16_of((float)sin(angle) + 0.5f * noise[d + 1]);
    }
}
