/* Fits recover the parameters that made the data, and print their error when the model is wrong. */
#include "traces/fit.h"

#include <gsl/gsl_test.h>
#include <math.h>

#include "model/sparsity.h"

enum { N = 12 };

static void a_markov_union_gives_its_parameters_back(void)
{
    struct union_sample s[N];
    struct union_fit fit;
    for (int i = 0; i < N; i++) {
        s[i] = (struct union_sample){.keep = 0.04 + 0.02 * (i % 4), .groups = 30 << (i / 4)};
        s[i].value = union_markov(s[i].keep, s[i].groups, 0.8, 0.4);
    }
    fit_union_markov(s, N, &fit);
    gsl_test_abs(fit.rho, 0.8, 0.01, "rho");
    gsl_test_abs(fit.omega, 0.4, 0.01, "omega");
    gsl_test(fit.worst > 1e-3, "worst error %.2g", fit.worst);
}

static void a_field_union_gives_its_length_back(void)
{
    struct union_sample s[N];
    struct union_fit fit;
    const double length[3] = {7, 7, 7};
    for (int i = 0; i < N; i++) {
        s[i] = (struct union_sample){.keep = 0.05 + 0.01 * i, .extent = {4, 8, 2.0 + i}};
        s[i].value = union_field(s[i].keep, s[i].extent, length);
    }
    fit_union_field(s, N, &fit);
    gsl_test_abs(fit.length, 7, 0.01, "length");
    gsl_test(fit.rms > 1e-4, "rms error %.2g", fit.rms);
}

static void a_union_no_model_explains_shows_its_error(void)
{
    struct union_sample s[2] = {{.keep = 0.1, .groups = 10, .value = 1},
                                {.keep = 0.1, .groups = 10, .value = 0.2}};
    struct union_fit fit;
    fit_union_markov(s, 2, &fit);
    gsl_test_abs(fit.rms, 0.4, 1e-3,
                 "equal samples with values 1 and 0.2: the mean is 0.4 off both");
    fit_union_error(s, 2, 0.8, 0.4, &fit);
    gsl_test(fit.rms < 0.4 - 1e-9, "no parameters do better");
}

int main(void)
{
    a_markov_union_gives_its_parameters_back();
    a_field_union_gives_its_length_back();
    a_union_no_model_explains_shows_its_error();
    return gsl_test_summary();
}
