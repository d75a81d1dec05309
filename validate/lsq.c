/* Least squares. */
#include "validate/lsq.h"

#include <gsl/gsl_errno.h>
#include <gsl/gsl_multifit_nlinear.h>
#include <gsl/gsl_sort.h>
#include <math.h>

#include "base/arena.h"

struct job {
    void (*f)(const double *x, const void *data, double *residual);
    const void *data;
    double scale;
    double *plain; /* residuals before the bend; GSL's own vectors may be columns of a matrix */
};

static int residuals(const gsl_vector *x, void *params, gsl_vector *out)
{
    const struct job *j = params;
    j->f(x->data, j->data, j->plain);
    for (size_t i = 0; i < out->size; i++) {
        double r = j->plain[i], z = r / j->scale;
        if (!isfinite(r))
            return GSL_EDOM;
        gsl_vector_set(out, i, copysign(j->scale * sqrt(2 * (sqrt(1 + z * z) - 1)), r));
    }
    return GSL_SUCCESS;
}

static bool solve(struct job *job, int rows, double *x, int count)
{
    gsl_multifit_nlinear_parameters p = gsl_multifit_nlinear_default_parameters();
    gsl_multifit_nlinear_workspace *w =
        gsl_multifit_nlinear_alloc(gsl_multifit_nlinear_trust, &p, (size_t)rows, (size_t)count);
    gsl_multifit_nlinear_fdf fdf = {
        .f = residuals, .n = (size_t)rows, .p = (size_t)count, .params = job};
    gsl_vector_view start = gsl_vector_view_array(x, (size_t)count);
    int info, status = gsl_multifit_nlinear_init(&start.vector, &fdf, w);
    if (status == GSL_SUCCESS)
        status = gsl_multifit_nlinear_driver(200, 1e-8, 1e-8, 1e-8, NULL, NULL, &info, w);
    bool ok = status == GSL_SUCCESS || status == GSL_EMAXITER || status == GSL_ENOPROG;
    for (int i = 0; ok && i < count; i++) {
        x[i] = gsl_vector_get(w->x, (size_t)i);
        ok = isfinite(x[i]);
    }
    gsl_multifit_nlinear_free(w);
    return ok;
}

bool lsq_fit(void (*f)(const double *x, const void *data, double *residual), const void *data,
             int rows, double *x, int count, double scale, struct err *e)
{
    if (rows < count)
        return err_set(e, ERR_INPUT, err_at_name("fit"), "%d rows are too few for %d unknowns",
                       rows, count);
    gsl_error_handler_t *old = gsl_set_error_handler_off();
    struct arena *scratch = arena_new();
    struct job job = {
        .f = f, .data = data, .scale = scale, .plain = ARENA_ARRAY(scratch, double, rows)};
    bool ok = solve(&job, rows, x, count);
    arena_free(scratch);
    gsl_set_error_handler(old);
    return ok ||
           err_set(e, ERR_INPUT, err_at_name("fit"), "no finite answer; are the times plausible?");
}

double quantile(double *v, int count, double q)
{
    if (count < 1)
        return 0;
    gsl_sort(v, 1, (size_t)count);
    int rank = (int)ceil(q * (count + 1));
    return v[rank > count ? count - 1 : rank - 1];
}
