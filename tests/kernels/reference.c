/* The reference backend itself, against hand arithmetic and finite differences of its own forward
 * pass. */
#include "tests/check.h"
#include "tests/kernels/problem.h"

#include <stdio.h>

#include "base/rng.h"

static const struct kern_backend *reference(void)
{
    struct err e = {0};
    return kern_backend_of("reference", &e);
}

/* Logits 0 and ln 3 (one column, scale 1): weights 1/4 and 3/4, so O = v0/4 + 3 v1/4 and LSE = log2
 * 4 = 2. */
static void two_keys_by_hand(void)
{
    uint16_t q[16] = {kern_bf16_of(1)}, k[32] = {0}, v[32] = {0}, o[16];
    float o32[16], lse;
    float ln3 = kern_float_of(kern_bf16_of(1.0986123f));
    k[16] = kern_bf16_of(ln3);
    v[0] = kern_bf16_of(8), v[16] = kern_bf16_of(16);
    struct kern_head h = {
        .q_rows = 1, .kv_rows = 2, .q = q, .k = k, .v = v, .o = o, .o32 = o32, .lse = &lse};
    struct kern_attention a = {.dim = 16, .scale = 1, .head_count = 1, .heads = &h};
    struct err e = {0};
    gsl_test(!reference()->forward(&a, &e), "two keys: %s", e.text);
    double weight =
        exp((double)ln3) / (1 + exp((double)ln3)); /* 3/4 but for the rounding of ln 3 to bf16 */
    gsl_test_rel(weight, 0.75, 3e-3, "weight of the second key");
    gsl_test_rel((double)o32[0], 8 + 8 * weight, 1e-6, "O of two keys");
    gsl_test_rel((double)lse, log2(1 + exp((double)ln3)), 1e-6, "LSE of two keys");
}

/* loss = sum O dO */
static double loss(const struct problem *p)
{
    struct err e = {0};
    reference()->forward(&p->a, &e);
    double sum = 0;
    for (int64_t i = 0; i < p->shape.q_rows * p->shape.dim; i++)
        sum += (double)p->head[0].o32[i] * (double)kern_float_of(p->head[0].d_o[i]);
    return sum;
}

/* Central difference over a step that bf16 can represent. */
static double slope(const struct problem *p, const uint16_t *at)
{
    uint16_t *x = (uint16_t *)(uintptr_t)at, kept = *x;
    float up = kern_float_of(kept) + 0.03125f, down = kern_float_of(kept) - 0.03125f;
    *x = kern_bf16_of(up);
    double high = loss(p), step = (double)kern_float_of(*x);
    *x = kern_bf16_of(down);
    double low = loss(p);
    step -= (double)kern_float_of(*x);
    *x = kept;
    return (high - low) / step;
}

static void gradients_are_finite_differences(int keep)
{
    struct problem_shape s = {.dim = 16,
                              .heads = 1,
                              .q_rows = 256,
                              .kv_rows = 256,
                              .group = 64,
                              .keep = {keep},
                              .logit_std = 1,
                              .seed = 21};
    struct problem p;
    struct err e = {0};
    problem_new(&p, &s);
    gsl_test(!reference()->forward(&p.a, &e) || !reference()->backward(&p.a, &e),
             "reference runs: %s", e.text);
    const struct kern_head *h = &p.head[0];
    const uint16_t *input[] = {h->q, h->k, h->v};
    const float *gradient[] = {h->dq, h->dk, h->dv};
    static const char *const name[] = {"dQ", "dK", "dV"};
    struct rng r = rng_stream(1, "coordinates", 0, 0, 0);
    for (int t = 0; t < 3; t++) {
        double error = 0, norm = 0;
        for (int n = 0; n < 12; n++) {
            uint64_t row = keep < 0 || t == 0 ? rng_below(&r, 256)
                                              : (uint64_t)p.list[0][rng_below(&r, (uint64_t)keep)];
            uint64_t at = row * 16 + rng_below(&r, 16);
            double d = slope(&p, input[t] + at), g = (double)gradient[t][at];
            error += (d - g) * (d - g);
            norm += g * g;
        }
        gsl_test(!(sqrt(error / norm) < 1e-2), "%s is the slope of the loss, %.2g off", name[t],
                 sqrt(error / norm));
    }
    problem_free(&p);
}

int main(void)
{
    two_keys_by_hand();
    gradients_are_finite_differences(-1);
    gradients_are_finite_differences(40);
    return gsl_test_summary();
}
