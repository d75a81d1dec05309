/* Fits kernel profiles: dense attention and GEMM by tiles and waves (non-linear least squares on
 * logarithms), sparse attention by rows and pairs (linear), another GPU by scaling a relative
 * through a few anchors. */
#ifndef VALIDATE_FIT_KERNEL_H
#define VALIDATE_FIT_KERNEL_H

#include "base/arena.h"
#include "model/prof.h"
#include "validate/point.h"

/* A fit sees the points for which keep(p, data) is true; keep == NULL sees all. */
struct fit_view {
    const struct points *pts;
    bool (*keep)(const struct point *p, const void *data);
    const void *data;
};
bool fit_sees(const struct fit_view *v, const struct point *p);

/* Attention entries for every (mask, head_dim) seen, and the constants they share, into *p (whose
 * sms are set by the caller). Backward rows give the ratio to the forward. ERR_INPUT with fewer
 * than eight forward rows. */
bool fit_attention(const struct fit_view *v, struct prof_kernels *p, struct arena *a,
                   struct err *e);
bool fit_gemm(const struct fit_view *v, int sms, struct prof_gemm *out, struct arena *a,
              struct err *e);

/* exp(mean log error) lines through the rows of DSV's table: forward and backward row_s + pair_s,
 * dense, selection. `cache` says whether rows with longer sequences may set cache_slope. */
bool fit_sparse(const struct fit_view *v, struct prof_sparse *out, struct err *e);

/* The relative with its attention tiles and GEMM rate scaled so that the anchors come out: 0.7 of
 * an entry's own deviation from the mean of all anchors is believed, for one anchor is one
 * measurement. origin becomes PROF_BORROWED. */
bool fit_scaled(const struct prof_kernels *relative, const struct fit_view *attention,
                const struct fit_view *gemm, int sms, struct prof_kernels *out, struct arena *a,
                struct err *e);

#endif
