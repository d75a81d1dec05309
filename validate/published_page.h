/* The section "Runs that others published" of the accuracy page. */
#ifndef VALIDATE_PUBLISHED_PAGE_H
#define VALIDATE_PUBLISHED_PAGE_H

#include "validate/page.h"
#include "validate/published.h"

struct published_set {
    int count;
    const struct published_run *runs;
    const struct published_answer *answers;
    int remark_count;
    const char *const *remarks; /* paragraphs: what their maker reads in the errors */
};

/* Reads `folder`/published_runs.csv and asks the planner; count 0 where there is no such file.
 * published_runs.txt beside it, if there, has a remark in each line: at most 50 of 8,190 bytes. */
bool published_all(const char *folder, struct published_set *out, struct arena *a, struct err *e);

/* Rows of a kind together: errors, and how many lie in their 90% interval. */
struct published_score {
    int rows, projects, inside;
    double median_off; /* median of |answer.off| */
    double bias;       /* median of answer.off */
};

/* bias and median_off from the errors of k->rows runs, which it reorders; NaN of none. */
void published_medians(double *off, struct published_score *k);

enum published_kind { KIND_ONE_GPU, KIND_SEVERAL, KIND_TRAINING, KIND_MEMORY, PUBLISHED_KINDS };
enum published_kind published_kind(const struct published_run *r);

struct published_ask {
    enum published_kind kind; /* PUBLISHED_KINDS: all that are times or rates */
    const char *project;      /* NULL: all */
    bool alone;               /* only numbers of the passes alone: `beyond` begins with "nothing" */
};

/* Rates err the other way than times: their off is turned round. */
struct published_score published_score(const struct published_set *s,
                                       const struct published_ask *ask, struct arena *a);

void published_page(const struct page *p, const struct published_set *s, struct arena *a);

#endif
