#include "traces/fit.h"

#include <gsl/gsl_multimin.h>
#include <math.h>

#include "model/sparsity.h"

struct problem {
    const struct union_sample *samples;
    int count;
    bool field;
};

static double bounded(double x) /* the real line onto 0..1 */
{
    return 1 / (1 + exp(-x));
}

static void parameters(const struct problem *p, const gsl_vector *x, struct union_fit *fit)
{
    *fit = (struct union_fit){0};
    if (p->field) {
        fit->length = exp(gsl_vector_get(x, 0));
    } else {
        fit->rho = 0.9999 * bounded(gsl_vector_get(x, 0));
        fit->omega = fit->rho * bounded(gsl_vector_get(x, 1));
    }
}

static double predict(const struct union_sample *s, const struct union_fit *fit)
{
    const double length[3] = {fit->length, fit->length, fit->length};
    return fit->length > 0 ? union_field(s->keep, s->extent, length)
                           : union_markov(s->keep, s->groups, fit->rho, fit->omega);
}

static void errors(const struct problem *p, struct union_fit *fit)
{
    double square = 0;
    fit->worst = 0;
    for (int i = 0; i < p->count; i++) {
        double d = predict(&p->samples[i], fit) - p->samples[i].value;
        square += d * d;
        fit->worst = fmax(fit->worst, fabs(d));
    }
    fit->rms = sqrt(square / p->count);
}

static double cost(const gsl_vector *x, void *params)
{
    struct union_fit fit;
    parameters(params, x, &fit);
    errors(params, &fit);
    return fit.rms;
}

static void fit_run(struct problem *p, size_t size, double start, struct union_fit *out)
{
    gsl_vector *x = gsl_vector_alloc(size), *step = gsl_vector_alloc(size);
    gsl_multimin_fminimizer *m =
        gsl_multimin_fminimizer_alloc(gsl_multimin_fminimizer_nmsimplex2, size);
    gsl_multimin_function f = {cost, size, p};
    gsl_vector_set_all(x, start);
    gsl_vector_set_all(step, 1.0);
    gsl_multimin_fminimizer_set(m, &f, x, step);
    for (int i = 0; i < 300; i++)
        if (gsl_multimin_fminimizer_iterate(m) != 0 ||
            gsl_multimin_test_size(gsl_multimin_fminimizer_size(m), 1e-5) == GSL_SUCCESS)
            break;
    parameters(p, gsl_multimin_fminimizer_x(m), out);
    errors(p, out);
    gsl_multimin_fminimizer_free(m);
    gsl_vector_free(step);
    gsl_vector_free(x);
}

/* The clamps of the Markov model make flat regions, so the search starts at several places. */
static void fit_best(struct problem *p, size_t size, struct union_fit *out)
{
    static const double starts[] = {0.5, -2, 2, -5};
    for (int i = 0; i < 4; i++) {
        struct union_fit fit;
        fit_run(p, size, starts[i], &fit);
        if (i == 0 || fit.rms < out->rms)
            *out = fit;
    }
}

void fit_union_markov(const struct union_sample *samples, int count, struct union_fit *out)
{
    struct problem p = {samples, count, false};
    fit_best(&p, 2, out);
}

void fit_union_field(const struct union_sample *samples, int count, struct union_fit *out)
{
    struct problem p = {samples, count, true};
    fit_best(&p, 1, out);
}

void fit_union_error(const struct union_sample *samples, int count, double rho, double omega,
                     struct union_fit *out)
{
    struct problem p = {samples, count, false};
    *out = (struct union_fit){.rho = rho, .omega = omega};
    errors(&p, out);
}
